// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Lab is a lab that was brought up. Its methods may be used from several
// goroutines and several processes.
type Lab struct {
	dir    labDir
	record record
	driver driver
}

// Status of a machine.
type Status struct {
	Name      string     `json:"name"`
	Roles     []string   `json:"roles"`
	Address   netip.Addr `json:"address"` // inside the lab
	SSHPort   int        `json:"sshPort"` // on 127.0.0.1
	MemoryMiB int        `json:"memoryMiB"`
	Spare     bool       `json:"spare"` // not in the inventory
	State     State      `json:"state"`
	PID       int        `json:"pid,omitempty"` // of a machine that is not stopped
}

// Open gives the lab of that name; the error wraps fs.ErrNotExist when there
// is none.
func Open(name string) (*Lab, error) {
	d, err := dirOf(name)
	if err != nil {
		return nil, err
	}
	r, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: %w: make it with \"muster lab up --name %s\", or see \"muster lab list\"", name, fs.ErrNotExist, name)
	}
	if err != nil {
		return nil, err
	}
	return &Lab{dir: d, record: r, driver: uml{memory: umlMemory}}, nil
}

// Names lists the labs of this user, sorted; also those whose making was cut
// short.
func Names() ([]string, error) { return names() }

// Name of the lab.
func (l *Lab) Name() string { return l.record.Name }

// Namespace is the name of the lab's network namespace, as in ip-netns(8).
func (l *Lab) Namespace() string { return namespaceOf(l.record.Name) }

// Inventory is the path of the inventory file that describes the lab, spare
// machines excepted.
func (l *Lab) Inventory() string { return l.dir.path(inventoryFile) }

// API is the address on 127.0.0.1 that leads to the API servers (port 6443 of
// the first control plane that accepts); empty without control planes.
func (l *Lab) API() string {
	if l.record.APIPort == 0 {
		return ""
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(l.record.APIPort)).String()
}

// Console is the path of the file that a machine's console is appended to.
func (l *Lab) Console(name string) (string, error) {
	if _, err := l.machine(name); err != nil {
		return "", err
	}
	return l.dir.machine(name, consoleFile), nil
}

// Machines lists the machines by address.
func (l *Lab) Machines() ([]Status, error) {
	var all []Status
	for _, m := range l.record.Machines {
		p, err := loadProcess(l.dir.machine(m.Name, processFile))
		if err != nil {
			return nil, fmt.Errorf("lab %s: %w", l.record.Name, err)
		}
		state, err := p.State()
		if err != nil {
			return nil, fmt.Errorf("lab %s: %s: %w", l.record.Name, m.Name, err)
		}
		s := Status{Name: m.Name, Roles: m.Roles, Address: m.Address, SSHPort: m.SSHPort,
			MemoryMiB: m.MemoryMiB, Spare: m.Spare, State: state}
		if state != Stopped {
			s.PID = p.PID
		}
		all = append(all, s)
	}
	return all, nil
}

func (l *Lab) machine(name string) (machineRecord, error) {
	i := slices.IndexFunc(l.record.Machines, func(m machineRecord) bool { return m.Name == name })
	if i < 0 {
		var has []string
		for _, m := range l.record.Machines {
			has = append(has, m.Name)
		}
		return machineRecord{}, fmt.Errorf("lab %s has no machine %q: it has %v", l.record.Name, name, has)
	}
	return l.record.Machines[i], nil
}

// Down removes the lab: its processes, namespace, devices and files. Images in
// the cache stay.
func (l *Lab) Down(ctx context.Context) error { return Down(ctx, l.record.Name) }

// Down removes the lab of that name, however far its making came; none is no
// error. Whatever runs in the lab's namespace is ended.
func Down(ctx context.Context, name string) error {
	d, err := dirOf(name)
	if err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	unlock, err := lock(ctx, lockOf(d), alone, func() {})
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the lock ends with its descriptor either way
	ns, err := openNamespace(namespaceOf(name))
	switch {
	case err == nil:
		err = errors.Join(endAll(ctx, ns), ns.Close())
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return fmt.Errorf("lab %s: %w", name, err)
	}
	if err := errors.Join(removeNamespace(namespaceOf(name)), os.RemoveAll(string(d)), os.Remove(lockOf(d))); err != nil {
		return fmt.Errorf("lab %s: %w", name, err)
	}
	return nil
}

// endAll kills every process in the namespace until there is none: a machine
// that is being killed may still be making children.
func endAll(ctx context.Context, ns netns.NsHandle) error {
	for {
		found, err := processesIn(ns)
		found = slices.DeleteFunc(found, func(p Process) bool { return p.PID == os.Getpid() })
		if err != nil || len(found) == 0 {
			return err
		}
		for _, p := range found {
			if err := p.signal(unix.SIGKILL); err != nil {
				return err
			}
		}
		for _, p := range found {
			if err := p.wait(ctx); err != nil {
				return err
			}
		}
	}
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("a lab needs root, to make network namespaces and devices: %w: run it with sudo", unix.EPERM)
	}
	return nil
}
