// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
)

// Update brings [Model.Want] up to date with the objects and returns what may
// have changed since the last call.
func (m *Model) Update() Touched {
	if m.allDirty {
		m.rebase()
		for name := range m.services {
			m.dirty[name] = struct{}{}
		}
		m.allDirty = false
	}
	for name := range m.dirty {
		m.remake(name)
	}
	clear(m.dirty)
	touched := m.touched
	m.touched = NewTouched()
	return touched
}

// rebase follows the ServiceCIDRs and the node's addresses. Holding a prefix
// again also brings its route up to date; Services do the same for theirs.
func (m *Model) rebase() {
	var all []netip.Prefix
	for _, prefixes := range m.cidrs {
		all = append(all, prefixes...)
	}
	base := outermost(all)
	for _, p := range base {
		m.holdPrefix(p)
	}
	for _, p := range m.base {
		m.releasePrefix(p)
	}
	m.base = base
}

// remake recomputes what one Service holds. The new is held before the old is
// released, so what is in both never counts as gone.
func (m *Model) remake(name Name) {
	old := m.made[name]
	claims, now := m.plan(name)
	for _, c := range claims {
		m.claim(c)
	}
	for _, f := range old.frontends {
		if !slices.Contains(now.frontends, f) {
			m.unclaim(f, name)
		}
	}
	for _, e := range now.elements {
		m.hold(e)
	}
	for _, e := range old.elements {
		m.release(e)
	}
	for _, p := range now.prefixes {
		m.holdPrefix(p)
	}
	for _, p := range old.prefixes {
		m.releasePrefix(p)
	}
	if len(now.frontends)+len(now.elements)+len(now.prefixes) == 0 {
		delete(m.made, name)
		return
	}
	m.made[name] = now
}

// plan computes what one Service should hold.
func (m *Model) plan(name Name) ([]claim, made) {
	var claims []claim
	var now made
	s, ok := m.services[name]
	if !ok {
		return nil, now
	}
	hairpins := map[netip.Addr]struct{}{}
	for _, v4 := range []bool{true, false} {
		family := func(a netip.Addr) bool { return a.Is4() == v4 }
		if !slices.ContainsFunc(s.ClusterIPs, family) {
			continue
		}
		for _, port := range s.Ports {
			c := choose(merge(m.slices[name], port, v4), m.config.Node, m.node.Zone)
			claims = append(claims, m.claimsOf(s, port, c, family)...)
			for _, a := range c.hairpins {
				hairpins[a] = struct{}{}
			}
		}
	}
	for _, c := range claims {
		now.frontends = append(now.frontends, c.frontend)
	}
	for a := range hairpins {
		now.elements = append(now.elements, Element{Set: SetHairpin, Prefix: hostPrefix(a)})
	}
	for _, a := range s.ClusterIPs {
		if !slices.ContainsFunc(m.base, func(p netip.Prefix) bool { return p.Contains(a) }) {
			now.prefixes = append(now.prefixes, hostPrefix(a))
		}
	}
	return claims, now
}

// claimsOf lists the frontends of one port in one address family.
func (m *Model) claimsOf(s Service, port Port, c choice, family func(netip.Addr) bool) []claim {
	var claims []claim
	add := func(a netip.Addr, number uint16, local, masq bool) {
		used := c.cluster
		if local {
			used = c.local
		}
		claims = append(claims, claim{
			by:       s,
			frontend: Frontend{Addr: netip.AddrPortFrom(a, number), Proto: port.Proto},
			server:   Server{Options: m.options(s), Dests: used},
			masq:     masq,
			drop:     local && len(used) == 0 && c.reachable,
		})
	}
	for _, a := range s.ClusterIPs {
		if family(a) {
			add(a, port.Port, s.InternalLocal, false)
		}
	}
	if port.NodePort == 0 {
		return claims
	}
	for _, a := range m.nodePortAddrs() {
		if family(a) {
			add(a, port.NodePort, s.ExternalLocal, !s.ExternalLocal)
		}
	}
	return claims
}

// claim adds or replaces a Service's claim and puts the winner in force.
func (m *Model) claim(c claim) {
	list := m.claims[c.frontend]
	if i := slices.IndexFunc(list, func(o claim) bool { return o.by.Name == c.by.Name }); i >= 0 {
		list[i] = c
	} else {
		list = append(list, c)
	}
	// A new Service may be seen before the deletion of the one whose address
	// it got. Oldest first, so all nodes agree.
	slices.SortFunc(list, func(a, b claim) int {
		return cmp.Or(a.by.Created.Compare(b.by.Created), cmp.Compare(a.by.Name.String(), b.by.Name.String()))
	})
	m.claims[c.frontend] = list
	m.serve(list[0])
}

func (m *Model) unclaim(f Frontend, by Name) {
	list := slices.DeleteFunc(m.claims[f], func(c claim) bool { return c.by.Name == by })
	if len(list) > 0 {
		m.claims[f] = list
		m.serve(list[0])
		return
	}
	delete(m.claims, f)
	delete(m.want.Servers, f)
	m.touched.Frontends[f] = struct{}{}
	for _, s := range []Set{SetOwned, SetFrontends, SetMasquerade, SetDrop} {
		m.set(FrontendElement(s, f), false)
	}
}

// serve puts a claim in force.
func (m *Model) serve(c claim) {
	old, ok := m.want.Servers[c.frontend]
	if !ok || old.Options != c.server.Options || !slices.Equal(old.Dests, c.server.Dests) {
		m.want.Servers[c.frontend] = c.server
		m.touched.Frontends[c.frontend] = struct{}{}
	}
	m.set(FrontendElement(SetOwned, c.frontend), true)
	m.set(FrontendElement(SetFrontends, c.frontend), true)
	m.set(FrontendElement(SetMasquerade, c.frontend), c.masq)
	m.set(FrontendElement(SetDrop, c.frontend), c.drop)
}

func (m *Model) set(e Element, on bool) {
	if m.want.Has(e) == on {
		return
	}
	if on {
		m.want.Elements[e] = struct{}{}
	} else {
		delete(m.want.Elements, e)
	}
	m.touched.Elements[e] = struct{}{}
}

func (m *Model) hold(e Element) {
	m.elements[e]++
	m.set(e, true)
}

func (m *Model) release(e Element) {
	if m.elements[e]--; m.elements[e] == 0 {
		delete(m.elements, e)
		m.set(e, false)
	}
}

func (m *Model) holdPrefix(p netip.Prefix) {
	m.prefixes[p]++
	m.hold(Element{Set: SetServiceCIDRs, Prefix: p})
	m.route(p)
}

func (m *Model) releasePrefix(p netip.Prefix) {
	if m.prefixes[p]--; m.prefixes[p] == 0 {
		delete(m.prefixes, p)
	}
	m.release(Element{Set: SetServiceCIDRs, Prefix: p})
	m.route(p)
}

// route makes p local if somebody holds it and the node has an address of
// that family to speak from.
func (m *Model) route(p netip.Prefix) {
	src, ok := netip.Addr{}, false
	if m.prefixes[p] > 0 {
		i := slices.IndexFunc(m.node.Addrs, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
		if ok = i >= 0; ok {
			src = m.node.Addrs[i]
		}
	}
	old, had := m.want.Routes[p]
	if had == ok && old == src {
		return
	}
	if ok {
		m.want.Routes[p] = src
	} else {
		delete(m.want.Routes, p)
	}
	m.touched.Routes[p] = struct{}{}
}

// Counts are the sizes of a Model, for metrics.
type Counts struct{ Services, Slices, Frontends, Prefixes int }

// Counts returns the current sizes.
func (m *Model) Counts() Counts {
	return Counts{
		Services:  len(m.services),
		Slices:    len(m.owner),
		Frontends: len(m.want.Servers),
		Prefixes:  len(m.want.Routes),
	}
}
