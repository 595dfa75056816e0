// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// The lab's network. It exists only inside the lab's namespace, so every lab
// can have the same one.
const (
	networkPrefix     = "10.77.0.0/24"
	networkPrefix6    = "fd77::/64"
	gatewayAddress    = "10.77.0.1"
	firstControlPlane = 11 // last byte of cp-1's address
	firstWorker       = 21
	lastWorker        = 254
)

// The roles a machine may have, as the inventory spells them.
const (
	roleControlPlane = "control-plane"
	roleEtcd         = "etcd"
	roleWorker       = "worker"
)

const (
	defaultKubernetes = "1.36.3"
	defaultMemoryMiB  = 2048
	leastMemoryMiB    = 256 // below this systemd and sshd do not come up
)

// Spec is what to make.
type Spec struct {
	Name     string    // at most 20 lower-case letters, digits and hyphens; empty: demo
	Machines []Machine // empty: the result of Standard(1, 2, 0, 0)
	Bare     bool      // no inventory is written

	// DualStack writes an inventory with both families. The machines have an
	// address of each in every lab.
	DualStack bool

	// Kubernetes is the version that the inventory asks for, without a leading
	// v; empty: 1.36.3.
	Kubernetes string

	// Forwarder is the program (with its first arguments) that ends in a call
	// of Forward with the arguments that the lab adds. Empty: this program's
	// own "lab forward".
	Forwarder []string
}

// Machine is one machine of a Spec. Its addresses come from its name: cp-N is
// 10.77.0.(10+N), w-N is 10.77.0.(20+N); fd77::21 belongs to 10.77.0.21.
type Machine struct {
	Name      string   // cp-1 to cp-9, w-1 to w-234
	Roles     []string // as in the inventory; empty: by the name
	MemoryMiB int      // 0: 2048; taken from this computer only as far as used
	Spare     bool     // runs, but is left out of the inventory: for joining it
}

// Standard gives the machines of a usual lab: control planes with etcd,
// workers, and spare workers numbered after them, each with memoryMiB (0: the
// default).
func Standard(controlPlanes, workers, spares, memoryMiB int) []Machine {
	var machines []Machine
	for i := range controlPlanes {
		machines = append(machines, Machine{Name: "cp-" + strconv.Itoa(i+1), MemoryMiB: memoryMiB})
	}
	for i := range workers + spares {
		machines = append(machines, Machine{Name: "w-" + strconv.Itoa(i+1), MemoryMiB: memoryMiB, Spare: i >= workers})
	}
	return machines
}

// withDefaults fills in what the Spec leaves open and reports every fault of
// the result.
func (s Spec) withDefaults() (Spec, error) {
	if s.Name == "" {
		s.Name = "demo"
	}
	if s.Kubernetes == "" {
		s.Kubernetes = defaultKubernetes
	}
	s.Machines = slices.Clone(s.Machines)
	if len(s.Machines) == 0 {
		s.Machines = Standard(1, 2, 0, 0)
	}
	faults := []error{checkName(s.Name)}
	seen := map[string]bool{}
	for i := range s.Machines {
		m := &s.Machines[i]
		m.MemoryMiB = max(m.MemoryMiB, 0)
		if m.MemoryMiB == 0 {
			m.MemoryMiB = defaultMemoryMiB
		}
		if len(m.Roles) == 0 {
			m.Roles = rolesOf(m.Name)
		}
		m.Roles = slices.Sorted(slices.Values(m.Roles))
		faults = append(faults, m.check())
		if seen[m.Name] {
			faults = append(faults, fmt.Errorf("machine %s: named twice", m.Name))
		}
		seen[m.Name] = true
	}
	if err := errors.Join(faults...); err != nil {
		return Spec{}, fmt.Errorf("lab %q: %w", s.Name, err)
	}
	return s, nil
}

func (m Machine) check() error {
	if _, err := addressOf(m.Name); err != nil {
		return err
	}
	if m.MemoryMiB < leastMemoryMiB {
		return fmt.Errorf("machine %s: %d MiB of memory: at least %d are needed to boot", m.Name, m.MemoryMiB, leastMemoryMiB)
	}
	for _, r := range m.Roles {
		if r != roleControlPlane && r != roleEtcd && r != roleWorker {
			return fmt.Errorf("machine %s: role %q: not one of %s, %s, %s", m.Name, r, roleControlPlane, roleEtcd, roleWorker)
		}
	}
	return nil
}

var (
	labName     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)
	machineName = regexp.MustCompile(`^(cp|w)-([1-9][0-9]{0,2})$`)
)

// checkName accepts what can be part of a path, of a namespace's name and of
// a cluster's name.
func checkName(name string) error {
	if !labName.MatchString(name) {
		return fmt.Errorf("lab name %q: must be 1 to 20 lower-case letters, digits and inner hyphens", name)
	}
	return nil
}

// addressOf gives the address that a machine of this name always has.
func addressOf(name string) (netip.Addr, error) {
	parts := machineName.FindStringSubmatch(name)
	if parts == nil {
		return netip.Addr{}, fmt.Errorf("machine %q: name is not cp-N or w-N", name)
	}
	number, err := strconv.Atoi(parts[2])
	if err != nil {
		return netip.Addr{}, fmt.Errorf("machine %q: %w", name, err)
	}
	first, last := firstControlPlane, firstWorker-2
	if parts[1] == "w" {
		first, last = firstWorker, lastWorker
	}
	host := first + number - 1
	if host > last {
		return netip.Addr{}, fmt.Errorf("machine %q: number is above %d, the network has no address for it", name, last-first+1)
	}
	octets := netip.MustParsePrefix(networkPrefix).Addr().As4()
	octets[3] = byte(host)
	return netip.AddrFrom4(octets), nil
}

// address6Of gives the IPv6 address that goes with an IPv4 address of the lab.
// Its last group is spelt like the other's last byte, so that people see whose
// it is.
func address6Of(a netip.Addr) netip.Addr {
	octets := netip.MustParsePrefix(networkPrefix6).Addr().As16()
	n := a.As4()[3]
	octets[14], octets[15] = n/100, n/10%10<<4|n%10
	return netip.AddrFrom16(octets)
}

// macOf derives a locally administered MAC address. UML's own random ones
// start alike in every machine.
func macOf(a netip.Addr) string {
	o := a.As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", o[0], o[1], o[2], o[3])
}

// tapOf names the machine's tap device; 15 bytes is the kernel's limit.
func tapOf(a netip.Addr) string { return "tap" + strconv.Itoa(int(a.As4()[3])) }

func rolesOf(name string) []string {
	if len(name) > 2 && name[:2] == "cp" {
		return []string{roleControlPlane, roleEtcd}
	}
	return []string{roleWorker}
}
