// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// check finds what is wrong between parts of the file. What a part got wrong
// by itself is a fault already and is not counted twice.
func check(r *reader, f file) {
	for _, key := range []string{"apiVersion", "cluster", "kubernetes", "hosts"} {
		r.require("", key)
	}
	checkPresent(r, f.hosts)
	checkUnique(r, f.hosts)
	unclear := func(h hostText) bool { return !r.clean(child(h.path, "roles")) || r.misspelt(h.path) }
	if len(f.hosts) > 0 && !slices.ContainsFunc(f.hosts, unclear) { // a mistyped role is one fault, not two
		checkRoles(r, f.hosts)
	}
	if r.clean("network") {
		checkNetwork(r, f)
	}
}

// require reports a key that the mapping at path must have.
func (r *reader) require(path, key string) {
	if !r.given(child(path, key)) && !r.misspelt(path) {
		r.fault(path, "", "%s is missing", key)
	}
}

// misspelt reports whether what is at path cannot have keys at all.
func (r *reader) misspelt(path string) bool {
	return slices.ContainsFunc(r.faults, func(f Fault) bool {
		return f.Path == path && strings.HasSuffix(f.Problem, "where keys and values belong")
	})
}

// clean reports whether nothing at or below the path is a fault.
func (r *reader) clean(path string) bool {
	return !slices.ContainsFunc(r.faults, func(f Fault) bool {
		rest, below := strings.CutPrefix(f.Path, path)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func checkPresent(r *reader, hosts []hostText) {
	for _, h := range hosts {
		r.require(h.path, "name")
		r.require(h.path, "address")
		roles := child(h.path, "roles")
		if len(h.Roles) == 0 && r.clean(roles) && !r.misspelt(h.path) {
			r.fault(h.path, "roles: control-plane, etcd, worker", "no roles")
		}
	}
	if r.given("hosts") && len(hosts) == 0 && r.clean("hosts") {
		r.fault("hosts", "", "no hosts")
	}
}

func checkUnique(r *reader, hosts []hostText) {
	names, addresses, endpoints := map[string]string{}, map[string]string{}, map[string]string{}
	once := func(seen map[string]string, what, value, path string) {
		if value == "" {
			return
		}
		if first, again := seen[value]; again {
			r.fault(path, "", "%s %s is that of %s (line %d) too", what, value, first, r.line(first))
			return
		}
		seen[value] = path
	}
	for _, h := range hosts {
		once(names, "name", h.Name, child(h.path, "name"))
		before := len(r.faults)
		for _, a := range h.addresses {
			once(addresses, "address", a.String(), a.path)
		}
		if h.Address.IsValid() && len(r.faults) == before { // the same address has the same endpoint: one fault says it
			once(endpoints, "ssh endpoint", h.ssh.endpoint(h.Address.String()), child(h.path, "ssh"))
		}
	}
}

// endpoint names where SSH connects to. Behind different bastions the same
// address may be different machines.
func (s sshText) endpoint(address string) string {
	host, port := s.Host, s.Port
	if host == "" {
		host = address
	}
	if port == 0 {
		port = 22
	}
	out := host + " port " + strconv.Itoa(port)
	for b := s.bastion; b != nil; b = b.bastion {
		out += " through " + b.Host + " port " + strconv.Itoa(b.Port)
	}
	return out
}

func checkRoles(r *reader, hosts []hostText) {
	planes, members := having(hosts, ControlPlane), having(hosts, Etcd)
	switch {
	case len(planes) == 0:
		r.fault("hosts", "give the role to one host", "no host has the role control-plane")
	case len(planes) > 1:
		r.fault("hosts", "give the role to one host only", "%d hosts have the role control-plane (%s): this version installs exactly one control-plane host",
			len(planes), strings.Join(planes, ", "))
	}
	switch n := len(members); {
	case n == 0:
		r.fault("hosts", "give the role to 1, 3 or 5 hosts", "no host has the role etcd")
	case n > 5:
		r.fault("hosts", "use 5", "%d hosts have the role etcd (%s): each member above 5 makes every write slower", n, strings.Join(members, ", "))
	case n%2 == 0:
		r.fault("hosts", fmt.Sprintf("use %d or %d", n-1, n+1), "%d hosts have the role etcd (%s): an even number survives no more failures than one less",
			n, strings.Join(members, ", "))
	}
}

func having(hosts []hostText, role Role) []string {
	var names []string
	for _, h := range hosts {
		if h.Has(role) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names
}

func checkNetwork(r *reader, f file) {
	n := f.inv.Network
	families := func(key string, list []netip.Prefix) {
		if len(list) > 2 || len(list) == 2 && list[0].Addr().Is4() == list[1].Addr().Is4() {
			r.fault("network."+key, "one CIDR, or one of IPv4 and one of IPv6", "%d CIDRs where a cluster has one of a family", len(list))
		}
	}
	families("pods", n.Pods)
	families("services", n.Services)
	if !r.clean("network") {
		return
	}
	same := len(n.Pods) == len(n.Services) && n.Pods[0].Addr().Is4() == n.Services[0].Addr().Is4()
	if !same {
		r.fault("network", "list the same families in the same order", "pods and services have different IP families (%s, %s)", n.Pods, n.Services)
	}
	checkRoom(r, n, len(f.hosts))
	checkOverlap(r, f)
	for _, h := range f.hosts {
		if same && len(h.addresses) > 0 {
			checkFamilies(r, n, h)
		}
	}
}

// checkFamilies wants an address of each family, as the kubelet does of a node
// whose pods have both.
func checkFamilies(r *reader, n Network, h hostText) {
	path, has, wants := child(h.path, "address"), len(h.addresses), len(n.Pods)
	switch {
	case has > wants && wants == 1:
		r.fault(path, "remove one, or give pods and services a CIDR of each family", "%d addresses where the network has one IP family (%s)", has, n.Pods[0])
		return
	case has > wants:
		r.fault(path, "write one of each, in the order of network.pods", "%d addresses where the network has two IP families", has)
		return
	case has < wants:
		r.fault(path, fmt.Sprintf("write both: [%s, an %s address]", h.Address, family(n.Pods[1].Addr())),
			"one address where the network has two IP families (%s, %s)", n.Pods[0], n.Pods[1])
		return
	}
	for i, a := range h.addresses {
		if a.Is4() == n.Pods[i].Addr().Is4() {
			continue
		}
		hint := ""
		if has > 1 {
			hint = "write one of each family, in the order of network.pods"
		}
		r.fault(a.path, hint, "%s is not of the cluster's %s IP family (%s)", a.Addr, []string{"primary", "second"}[i], n.Pods[i])
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// checkRoom holds the limits of kube-apiserver (a service CIDR of at most 2^20
// addresses) and of kube-controller-manager (node CIDRs of /24 and /64, at most
// 16 bits below the cluster's). A service CIDR below 256 addresses runs out.
func checkRoom(r *reader, n Network, hosts int) {
	for i, p := range n.Services {
		narrow, wide := 12, 24
		if p.Addr().Is6() {
			narrow, wide = 108, 120
		}
		if p.Bits() < narrow || p.Bits() > wide {
			r.fault(fmt.Sprintf("network.services[%d]", i), fmt.Sprintf("use a mask from /%d to /%d", narrow, wide), "%s has no fitting size", p)
		}
	}
	for i, p := range n.Pods {
		narrow, node := 8, 24
		if p.Addr().Is6() {
			narrow, node = 48, 64
		}
		path := fmt.Sprintf("network.pods[%d]", i)
		switch {
		case p.Bits() < narrow || p.Bits() > node:
			r.fault(path, fmt.Sprintf("use a mask from /%d to /%d", narrow, node), "%s has no fitting size: every host gets a /%d of it", p, node)
		case hosts > 1<<(node-p.Bits()):
			r.fault(path, "use a shorter mask", "%s has room for %d hosts of the %d: each gets a /%d", p, 1<<(node-p.Bits()), hosts, node)
		}
	}
}

func checkOverlap(r *reader, f file) {
	n := f.inv.Network
	for i, s := range n.Services {
		for _, p := range n.Pods {
			if s.Overlaps(p) {
				r.fault(fmt.Sprintf("network.services[%d]", i), "", "%s overlaps the pods' %s", s, p)
			}
		}
	}
	for _, h := range f.hosts {
		for _, a := range h.addresses {
			for _, p := range n.Pods {
				if p.Contains(a.Addr) {
					r.fault(a.path, "", "%s lies in the pods' %s", a.Addr, p)
				}
			}
			for _, s := range n.Services {
				if s.Contains(a.Addr) {
					r.fault(a.path, "", "%s lies in the services' %s", a.Addr, s)
				}
			}
		}
	}
}
