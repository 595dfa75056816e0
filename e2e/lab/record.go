// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// apiServerPort is where the API servers listen inside the lab.
const apiServerPort = 6443

// merge gives the record of a lab that has what it had before and what the
// spec adds.
func merge(ctx context.Context, before record, spec Spec) (record, error) {
	after := record{Name: spec.Name, Kubernetes: spec.Kubernetes, Bare: spec.Bare, DualStack: spec.DualStack, Driver: "uml", APIPort: before.APIPort}
	cores, err := newCores(spec.Name)
	if err != nil {
		return record{}, err
	}
	for _, m := range before.Machines {
		cores.add(m.Core)
		if !slices.ContainsFunc(spec.Machines, func(w Machine) bool { return w.Name == m.Name }) {
			return record{}, fmt.Errorf("it has a machine %s that is not asked for: ask for it too, or remove the lab first with \"muster lab down --name %s\"",
				m.Name, spec.Name)
		}
	}
	for _, w := range spec.Machines {
		m, err := machineFor(before, w)
		if err != nil {
			return record{}, err
		}
		m.Spare = w.Spare || spec.Bare
		if m.SSHPort == 0 {
			m.Core = cores.take()
		}
		after.Machines = append(after.Machines, m)
	}
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
