// SPDX-License-Identifier: Apache-2.0

package proxier

import (
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
	m.checkHealth(old.health, now.health)
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
	if len(now.frontends)+len(now.elements)+len(now.prefixes) == 0 && now.health.Port == 0 {
		delete(m.made, name)
		return
	}
	m.made[name] = now
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
