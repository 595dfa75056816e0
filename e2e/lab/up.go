// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

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
