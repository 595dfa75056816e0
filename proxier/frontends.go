// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"math"
	"net/netip"
	"slices"
)

// plan computes what one Service should hold.
func (m *Model) plan(name Name) ([]claim, made) {
	var claims []claim
	var now made
	s, ok := m.services[name]
	if !ok {
		return nil, now
	}
	hairpins, here := map[netip.Addr]struct{}{}, map[netip.Addr]struct{}{}
	for _, ip := range s.ClusterIPs {
		for _, port := range s.Ports {
			c := choose(merge(m.slices[name], port, ip.Is4()), m.config.Node, m.node.Zone, s.Tuning)
			claims = append(claims, m.claimsOf(s, port, c, ip)...)
			for _, a := range c.hairpins {
				hairpins[a] = struct{}{}
			}
			for _, a := range c.here {
				here[a] = struct{}{}
			}
		}
		if !slices.ContainsFunc(m.base, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			now.prefixes = append(now.prefixes, hostPrefix(ip))
		}
	}
	for _, c := range claims {
		now.frontends = append(now.frontends, c.frontend)
		if c.split.IsValid() {
			now.elements = append(now.elements, FrontendElement(SetTargets, Frontend{Addr: c.split, Proto: c.frontend.Proto}))
		}
	}
	for a := range hairpins {
		now.elements = append(now.elements, Element{Set: SetHairpin, Prefix: hostPrefix(a)})
	}
	now.health = HealthCheck{Port: s.HealthPort, Service: name, Local: len(here)}
	return claims, now
}

// claimsOf lists the frontends of one port in the address family of one of
// the Service's ClusterIPs.
func (m *Model) claimsOf(s Service, port Port, c choice, ip netip.Addr) []claim {
	list := frontends{service: s, port: port, choice: c, options: m.options(s), node: m.node.Addrs}
	list.add(ClusterIP, netip.AddrPortFrom(ip, port.Port), s.InternalLocal)
	if s.ExternalLocal {
		list.split = netip.AddrPortFrom(ip, port.Port)
		if s.InternalLocal {
			list.split = netip.AddrPortFrom(ip, spare(s, port))
		}
	}
	for _, e := range m.external(s, port) {
		if e.addr.Addr().Is4() == ip.Is4() {
			list.add(e.kind, e.addr, s.ExternalLocal)
		}
	}
	if s.ExternalLocal && s.InternalLocal && len(list.claims) > 1 {
		list.add(SplitTarget, list.split, false)
	}
	return list.claims
}

// external lists where clients outside the cluster find a port.
func (m *Model) external(s Service, port Port) []place {
	var list []place
	if port.NodePort != 0 {
		for _, a := range m.nodePortAddrs() {
			list = append(list, place{NodePort, netip.AddrPortFrom(a, port.NodePort)})
		}
	}
	for _, a := range s.ExternalIPs {
		// An address may be the load balancer's too: then its ranges hold.
		if !slices.Contains(s.BalancerIPs, a) {
			list = append(list, place{ExternalIP, netip.AddrPortFrom(a, port.Port)})
		}
	}
	for _, a := range s.BalancerIPs {
		list = append(list, place{BalancerIP, netip.AddrPortFrom(a, port.Port)})
	}
	return list
}

type place struct {
	kind Kind
	addr netip.AddrPort
}

// frontends makes the claims of one Service port.
type frontends struct {
	service Service
	port    Port
	choice  choice
	options Options
	node    []netip.Addr   // the node's addresses
	split   netip.AddrPort // of external frontends; zero is none
	claims  []claim
}

func (l *frontends) add(kind Kind, addr netip.AddrPort, local bool) {
	used := l.choice.cluster
	if local {
		used = l.choice.local
	}
	c := claim{
		owner:    Owner{Service: l.service.Name, Port: l.port.Name, Kind: kind},
		created:  l.service.Created,
		frontend: Frontend{Addr: addr, Proto: l.port.Proto},
		server:   Server{Options: l.options, Dests: used},
	}
	c.sets.put(SetOwned, true)
	c.sets.put(SetFrontends, kind != SplitTarget)
	foreign := kind == ExternalIP || kind == BalancerIP // an address that need not be this host's
	c.sets.put(SetCapture, foreign)
	c.sets.put(SetRefused, !l.choice.reachable)
	c.sets.put(SetMasquerade, kind.external() && !local)
	c.sets.put(SetDrop, local && len(used) == 0 && l.choice.reachable)
	if kind.external() && local {
		c.split = l.split
	}
	if kind == BalancerIP {
		c.allowed = l.allowed(addr.Addr())
		c.sets.put(SetRestricted, len(c.allowed) > 0)
	}
	l.claims = append(l.claims, c)
}

// allowed are the sources that may use a load balancer's address. Some load
// balancers give it to the node too; then what the node itself sends there
// comes from there, and is welcome wherever the node is.
func (l *frontends) allowed(balancer netip.Addr) []netip.Prefix {
	var list []netip.Prefix
	node := false
	for _, p := range l.service.SourceRanges {
		if p.Addr().Is4() == balancer.Is4() {
			list = append(list, p)
			node = node || slices.ContainsFunc(l.node, p.Contains)
		}
	}
	if node && !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(balancer) }) {
		list = append(list, hostPrefix(balancer))
	}
	return list
}

// spare is a port number that a Service does not use, another one for each of
// its ports. Its ClusterIP with that number is a virtual server nobody can
// ask for directly.
func spare(s Service, port Port) uint16 {
	used := func(n uint16) bool { return slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Port == n }) }
	skip := slices.Index(s.Ports, port)
	for n := uint16(math.MaxUint16); ; n-- {
		if !used(n) {
			if skip == 0 {
				return n
			}
			skip--
		}
	}
}
