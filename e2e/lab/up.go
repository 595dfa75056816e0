// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// apiServerPort is where the API servers listen inside the lab.
const apiServerPort = 6443

// Up makes the lab, or what is missing of it, starts the machines that are
// stopped, and returns when each one lets SSH in. Machines that the Spec adds
// to an existing lab are made; one that the Spec lacks is a fault. progress
// may be nil; it is called by one goroutine at a time.
func Up(ctx context.Context, spec Spec, progress func(Event)) (*Lab, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, err
	}
	d, err := dirOf(spec.Name)
	if err != nil {
		return nil, err
	}
	if err := needRoot(); err != nil {
		return nil, err
	}
	uml, err := newUML()
	if err != nil {
		return nil, err
	}
	t := newTeller(progress)
	if warning := overcommitted(spec.Machines, uml.room); warning != "" {
		t.say("memory", warning)
	}
	l := &Lab{dir: d, driver: uml}
	if err := l.make(ctx, spec, t); err != nil {
		return nil, fmt.Errorf("lab %s: %w", spec.Name, err)
	}
	waits, waiting := errgroup.WithContext(ctx)
	for _, m := range l.record.Machines {
		waits.Go(func() error { return l.awaitBoot(waiting, m, t.about(m.Name)) })
	}
	if err := waits.Wait(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", spec.Name, err)
	}
	return l, nil
}

// make brings everything into being, up to machines that have begun to boot.
func (l *Lab) make(ctx context.Context, spec Spec, t *teller) error {
	unlock, err := lock(ctx, lockOf(l.dir), alone, func() { t.say("lab", "another muster works on it, waiting") })
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the lock ends with its descriptor either way
	if err := l.takeImages(ctx, t); err != nil {
		return err
	}
	before, err := l.dir.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.record, err = merge(ctx, before, spec); err != nil {
		return err
	}
	if err := l.writeFiles(); err != nil {
		return err
	}
	t.say("network", "namespace "+l.Namespace())
	ns, err := l.connect(ctx, spec.Forwarder)
	if err != nil {
		return err
	}
	defer ns.Close() //nolint:errcheck // the namespace has a name
	for _, m := range l.record.Machines {
		if err := l.start(ctx, ns, m); err != nil {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
	return nil
}

// overcommitted warns when the machines could together want more memory than
// there is room for. They seldom do: a node of an idle cluster uses 0.5 GiB.
func overcommitted(machines []Machine, room uint64) string {
	var sum uint64
	for _, m := range machines {
		sum += uint64(m.MemoryMiB)
	}
	if sum <= room>>20 {
		return ""
	}
	return fmt.Sprintf("the machines may use %d MiB together, %s has %d: one dies if they do; --memory makes them smaller", sum, umlMemory, room>>20)
}

// takeImages links kernel and root image into the lab's directory once: what a
// machine was made with has to stay while its disk lives, whatever becomes of
// the cache.
func (l *Lab) takeImages(ctx context.Context, t *teller) error {
	if _, err := os.Stat(l.dir.path(baseFile)); err == nil {
		return nil
	}
	kernel, root, err := images(ctx, t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir.path(), 0o700); err != nil {
		return err
	}
	for _, from := range []string{
		filepath.Join(kernel, kernelFile), filepath.Join(kernel, modulesFile),
		filepath.Join(root, baseFile), // last: it tells that all are there
	} {
		if err := place(from, l.dir.path(filepath.Base(from))); err != nil {
			return err
		}
	}
	return nil
}

// images gives the cache directories of kernel and root image, both made at
// the same time if need be: one waits for processors, the other for the
// network.
func images(ctx context.Context, t *teller) (kernel, root string, err error) {
	c, err := openCache()
	if err != nil {
		return "", "", err
	}
	if err := checkPackages(ctx); err != nil {
		return "", "", err
	}
	version, err := packageVersion(ctx, sourcePackage)
	if err != nil {
		return "", "", err
	}
	m, err := findMirrors(ctx)
	if err != nil {
		return "", "", err
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		say := t.about("kernel")
		var err error
		kernel, err = c.get(ctx, kernelProduct(version, say), say)
		return err
	})
	both.Go(func() error {
		say := t.about("root")
		var err error
		root, err = c.get(ctx, rootProduct(m, say), say)
		return err
	})
	return kernel, root, both.Wait()
}

// merge gives the record of a lab that has what it had before and what the
// spec adds.
func merge(ctx context.Context, before record, spec Spec) (record, error) {
	after := record{Name: spec.Name, Kubernetes: spec.Kubernetes, Bare: spec.Bare, Driver: "uml", APIPort: before.APIPort}
	cores, err := usableCores()
	if err != nil {
		return record{}, err
	}
	for _, m := range before.Machines {
		if !slices.ContainsFunc(spec.Machines, func(w Machine) bool { return w.Name == m.Name }) {
			return record{}, fmt.Errorf("it has a machine %s that is not asked for: ask for it too, or remove the lab first with \"muster lab down --name %s\"",
				m.Name, spec.Name)
		}
	}
	var added int
	for _, w := range spec.Machines {
		m, err := machineFor(before, w)
		if err != nil {
			return record{}, err
		}
		m.Spare = w.Spare || spec.Bare
		if m.SSHPort == 0 {
			m.Core = cores[(len(before.Machines)+added)%len(cores)]
			added++
		}
		after.Machines = append(after.Machines, m)
	}
	slices.SortFunc(after.Machines, func(a, b machineRecord) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(after.Machines, func(a, b machineRecord) int { return a.Address.Compare(b.Address) })
	return after, after.choosePorts(ctx)
}

// machineFor gives the machine as it was, with what may change between two
// starts taken from the spec.
func machineFor(before record, w Machine) (machineRecord, error) {
	address, err := addressOf(w.Name)
	if err != nil {
		return machineRecord{}, err
	}
	m := machineRecord{Name: w.Name, Address: address}
	for _, b := range before.Machines {
		if b.Name == w.Name {
			m = b
		}
	}
	m.Roles, m.MemoryMiB = w.Roles, w.MemoryMiB
	return m, nil
}

// choosePorts gives every forwarding that has none a free local port.
func (r *record) choosePorts(ctx context.Context) error {
	ports, err := freePorts(ctx, len(r.Machines)+1)
	if err != nil {
		return err
	}
	if r.APIPort == 0 && len(r.apiServers()) > 0 {
		r.APIPort = ports[0]
	}
	for i := range r.Machines {
		if r.Machines[i].SSHPort == 0 {
			r.Machines[i].SSHPort = ports[i+1]
		}
	}
	return nil
}

// apiServers are the addresses where API servers will listen, in order.
func (r *record) apiServers() []string {
	var all []string
	for _, m := range r.Machines {
		if slices.Contains(m.Roles, roleControlPlane) {
			all = append(all, net.JoinHostPort(m.Address.String(), strconv.Itoa(apiServerPort)))
		}
	}
	return all
}

// routes are the forwarder's, in a fixed order.
func (r *record) routes() []route {
	var all []route
	for _, m := range r.Machines {
		all = append(all, route{m.SSHPort, []string{net.JoinHostPort(m.Address.String(), "22")}})
	}
	if r.APIPort != 0 {
		all = append(all, route{r.APIPort, r.apiServers()})
	}
	return all
}

// usableCores lists the processors that this process may run on.
func usableCores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask for the usable processors: %w", err)
	}
	var cores []int
	for i := 0; len(cores) < set.Count(); i++ {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores, nil
}

// writeFiles writes what the lab and each new machine has on disk. lab.json is
// last: what it names exists.
func (l *Lab) writeFiles() error {
	signer, err := l.dir.ensureClientKey()
	if err != nil {
		return err
	}
	modules, err := os.ReadFile(l.dir.path(modulesFile))
	if err != nil {
		return err
	}
	for i := range l.record.Machines {
		if err := l.writeMachine(&l.record.Machines[i], keyLine(signer.PublicKey()), modules); err != nil {
			return fmt.Errorf("%s: %w", l.record.Machines[i].Name, err)
		}
	}
	hosts, err := knownHosts(l.record.Machines)
	if err != nil {
		return err
	}
	if err := writeFile(l.dir.path(knownHostsFile), hosts, 0o600); err != nil {
		return err
	}
	if err := l.writeInventory(); err != nil {
		return fmt.Errorf("write the inventory: %w", err)
	}
	return l.dir.save(l.record)
}

func (l *Lab) writeInventory() error {
	if l.record.Bare {
		if err := os.Remove(l.Inventory()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	doc, err := renderInventory(l.record, l.dir)
	if err != nil {
		return err
	}
	return writeFile(l.Inventory(), doc, 0o600)
}

// writeMachine makes a machine's directory once. Its key in m tells that it is
// complete.
func (l *Lab) writeMachine(m *machineRecord, authorizedKey string, modules []byte) error {
	if m.HostKey != "" {
		return nil
	}
	dir := l.dir.machine(m.Name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	host, err := newKeyPair(m.Name)
	if err != nil {
		return err
	}
	data, err := archive(seed(m.Name, newMachineID(), authorizedKey, host, m.Address, netip.MustParseAddr(gatewayAddress)))
	if err != nil {
		return err
	}
	// Two archives in one file: guest/init reads past the end of the first.
	if err := writeFile(filepath.Join(dir, seedFile), append(data, modules...), 0o600); err != nil {
		return err
	}
	m.HostKey = host.public
	return nil
}
