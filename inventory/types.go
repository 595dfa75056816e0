// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"net/netip"
	"slices"
)

// Role is a job a host has in the cluster.
type Role string

// The roles of version 1. A host may have several.
const (
	ControlPlane Role = "control-plane"
	Etcd         Role = "etcd"
	Worker       Role = "worker"
)

// First-contact policies: what to do with a host whose key nobody has seen.
const (
	Refuse    = "refuse"     // stop, and show the key's fingerprint
	AcceptNew = "accept-new" // write the key to known_hosts, as OpenSSH does
)

// Inventory is what the file says, with defaults filled in. Values made by
// Parse are valid; Hosts are sorted by name.
type Inventory struct {
	Cluster    string // RFC 1123 label
	Kubernetes string // three numbers without a leading v: 1.36.3
	Network    Network
	API        API
	Hosts      []Host
}

// Network is the cluster's address plan. Pods and Services hold one prefix, or
// one of each family with the primary family first, in the same order.
type Network struct {
	Pods     []netip.Prefix
	Services []netip.Prefix
	Domain   string // DNS domain of the cluster, without dots at its ends
	CNI      string
}

// API says how operators reach the API server.
type API struct {
	Endpoint string   // host:port
	Names    []string // more names and addresses for its certificate, sorted
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key, Value, Effect string
}

// Host is one machine.
type Host struct {
	Name    string     // RFC 1123 name; also the node's name
	Address netip.Addr // where the cluster's other hosts reach it
	Second  netip.Addr // of the other family in a dual-stack cluster; otherwise invalid
	Roles   []Role     // sorted, at least one
	Zone    string     // failure domain; empty when the file names none
	Labels  map[string]string
	Taints  []Taint // sorted by key, value and effect
	SSH     SSH
}

// SSH says how to reach a machine. Host, Port, User and Keys keep their zero
// value where the file leaves them open: then ~/.ssh/config decides, and after
// it the host's address, port 22, root, and OpenSSH's usual key files.
type SSH struct {
	Host         string   // name or address to dial, or an alias of ~/.ssh/config
	Port         int      // 1 to 65535
	User         string   // anyone but root needs sudo without a password
	Keys         []string // private key files; "~/" is not expanded (see ExpandHome)
	Agent        bool     // ask the SSH agent; true unless the file says no
	KnownHosts   []string // known_hosts files, first one is written; empty: ~/.ssh/known_hosts
	HostKey      string   // pinned key, "ssh-ed25519 AAAA…"; then known_hosts is not read
	FirstContact string   // Refuse or AcceptNew
	Bastion      *SSH     // the hop before this one; its own Bastion is the hop before that
}

// WithRole gives the hosts that have the role, sorted by name.
func (i Inventory) WithRole(r Role) []Host {
	var hosts []Host
	for _, h := range i.Hosts {
		if h.Has(r) {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	return hosts
}

// Host gives the host of that name, and whether there is one.
func (i Inventory) Host(name string) (Host, bool) {
	for _, h := range i.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// Addresses gives the host's address of each of the cluster's families, the
// primary family's first.
func (h Host) Addresses() []netip.Addr {
	if !h.Second.IsValid() {
		return []netip.Addr{h.Address}
	}
	return []netip.Addr{h.Address, h.Second}
}

// Has reports whether the host has the role.
func (h Host) Has(r Role) bool { return slices.Contains(h.Roles, r) }
