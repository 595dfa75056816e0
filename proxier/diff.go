// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"net/netip"
	"slices"
)

// Touched says which parts of two States may differ.
type Touched struct {
	Frontends map[Frontend]struct{}
	Elements  map[Element]struct{}
	Routes    map[netip.Prefix]struct{}
}

// NewTouched returns an empty Touched that can be added to.
func NewTouched() Touched {
	return Touched{
		Frontends: map[Frontend]struct{}{},
		Elements:  map[Element]struct{}{},
		Routes:    map[netip.Prefix]struct{}{},
	}
}

// Empty reports whether nothing was touched.
func (t Touched) Empty() bool { return len(t.Frontends)+len(t.Elements)+len(t.Routes) == 0 }

// Everything touches all that is in either State.
func Everything(have, want State) Touched {
	t := Touched{
		Frontends: make(map[Frontend]struct{}, max(len(have.Servers), len(want.Servers))),
		Elements:  make(map[Element]struct{}, max(len(have.Elements), len(want.Elements))),
		Routes:    map[netip.Prefix]struct{}{},
	}
	for _, s := range []State{have, want} {
		for f := range s.Servers {
			t.Frontends[f] = struct{}{}
		}
		for e := range s.Elements {
			t.Elements[e] = struct{}{}
		}
		for r := range s.Routes {
			t.Routes[r] = struct{}{}
		}
	}
	return t
}

// Diff plans the way from have to want, looking at what was touched only.
//
// Virtual servers that are neither wanted nor owned stay as they are: other
// programs use IPVS too. A TCP real server that is no longer wanted gets
// weight 0 and is left to [Reap].
//
// spread turns the order in which real servers are added. Round robin starts
// with the first, and if all nodes agreed on which that is, it would get the
// first connection of each of them.
func Diff(have, want State, touched Touched, spread uint32) Plan {
	p := Plan{Servers: make([]ServerChange, 0, expected(have, want, touched))}
	for _, r := range slices.SortedFunc(maps.Keys(touched.Routes), comparePrefix) {
		p.route(r, have, want)
	}
	var gone []Frontend
	for _, f := range sortedFrontends(touched.Frontends) {
		if p.server(f, have, want, spread) {
			gone = append(gone, f)
		}
	}
	for _, f := range gone {
		p.Servers = append(p.Servers, ServerChange{Verb: DelServer, Frontend: f})
	}
	for _, e := range slices.SortedFunc(maps.Keys(touched.Elements), compareElement) {
		p.element(e, have, want)
	}
	// A prefix may be replaced by one that overlaps it, and the kernel's
	// interval sets refuse both at once.
	slices.SortStableFunc(p.Before, deletionsFirst)
	slices.SortStableFunc(p.After, deletionsFirst)
	return p
}

// expected is how many changes of servers there may be, so that a cold start
// does not copy a growing list over and over.
func expected(have, want State, touched Touched) int {
	n := 0
	for f := range touched.Frontends {
		if _, there := have.Servers[f]; !there {
			n += 1 + len(want.Servers[f].Dests)
		}
	}
	return n
}

func (p *Plan) route(prefix netip.Prefix, have, want State) {
	old, had := have.Routes[prefix]
	src, wanted := want.Routes[prefix]
	switch {
	case wanted && (!had || old != src):
		p.Routes = append(p.Routes, RouteChange{Prefix: prefix, Source: src})
	case had && !wanted:
		p.Routes = append(p.Routes, RouteChange{Prefix: prefix, Source: old, Del: true})
	}
}

// element sorts a change into Before or After.
func (p *Plan) element(e Element, have, want State) {
	had, wanted := have.Has(e), want.Has(e)
	if had == wanted {
		return
	}
	change := SetChange{Element: e, Del: had}
	if before(e, wanted, have, want) {
		p.Before = append(p.Before, change)
	} else {
		p.After = append(p.After, change)
	}
	if e.Set == SetFrontends && wanted && e.Proto == UDP && !inPrefixes(want.Routes, e.Prefix.Addr()) {
		p.Forget = append(p.Forget, Flows{Frontend: e.Frontend()})
	}
}

// before reports whether a change of a set comes before the servers change.
// Being reachable starts last and ends first; everything else is there for as
// long as it may matter.
func before(e Element, wanted bool, have, want State) bool {
	// A server that is there already is complete by the time anybody notices.
	// This matters when somebody flushed the packet filter: frontends return
	// in the same transaction as the refusal of the rest.
	_, served := have.Servers[e.Frontend()]
	_, stays := want.Servers[e.Frontend()]
	switch e.Set {
	case SetFrontends, SetCapture:
		return !wanted || served
	case SetRestricted, SetAllowed:
		return served && stays // all of a change of ranges in one transaction
	case SetSplit:
		return !wanted && !stays // a new target must be complete, and replaces the old in one transaction
	case SetServiceCIDRs, SetPodCIDRs, SetInside:
		return true
	case SetDrop, SetRefused:
		return false
	}
	return wanted
}

// Addresses in our prefixes refuse unknown ports before a flow is recorded,
// so only flows to other addresses can be older than their frontend.
func inPrefixes(routes map[netip.Prefix]netip.Addr, a netip.Addr) bool {
	for prefix := range routes {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// server plans one virtual server and reports whether it must go.
func (p *Plan) server(f Frontend, have, want State, spread uint32) (superfluous bool) {
	old, had := have.Servers[f]
	server, wanted := want.Servers[f]
	switch {
	case !wanted && (!had || !have.Owns(f)):
		return false
	case !wanted:
		p.forget(f, old.Dests, have)
		return true
	case !had:
		p.Servers = append(p.Servers, ServerChange{Verb: AddServer, Frontend: f, Options: server.Options})
	case old.Options != server.Options:
		p.Servers = append(p.Servers, ServerChange{Verb: EditServer, Frontend: f, Options: server.Options})
	}
	p.forget(f, p.dests(f, old.Dests, server.Dests, spread), have)
	return false
}

// forget ends the flows of clients that were led here, to real servers that
// are gone: their packets follow connection tracking, past IPVS.
func (p *Plan) forget(f Frontend, gone []Dest, have State) {
	if f.Proto != UDP || !have.Has(FrontendElement(SetTargets, f)) {
		return
	}
	for _, d := range gone {
		p.Forget = append(p.Forget, Flows{Frontend: f, Backend: d.Addr})
	}
}

// dests walks two sorted lists. What adds capacity is planned before what
// takes it away. It returns the real servers that are no longer wanted.
func (p *Plan) dests(f Frontend, have, want []Dest, spread uint32) (gone []Dest) {
	var fewer []ServerChange
	first := len(p.Servers)
	for len(have) > 0 || len(want) > 0 {
		order := compareHeads(have, want)
		switch {
		case order > 0:
			p.Servers = append(p.Servers, ServerChange{Verb: AddDest, Frontend: f, Dest: want[0]})
		case order < 0:
			if c, ok := retire(f, have[0]); ok {
				fewer = append(fewer, c)
				gone = append(gone, have[0])
			}
		case have[0].Weight < want[0].Weight:
			p.Servers = append(p.Servers, ServerChange{Verb: EditDest, Frontend: f, Dest: want[0]})
		case have[0].Weight > want[0].Weight:
			fewer = append(fewer, ServerChange{Verb: EditDest, Frontend: f, Dest: want[0]})
		}
		if order <= 0 {
			have = have[1:]
		}
		if order >= 0 {
			want = want[1:]
		}
	}
	rotate(p.Servers[first:], spread)
	p.Servers = append(p.Servers, fewer...)
	return gone
}

// retire ends a real server: TCP drains, the others have no end to wait for
// and IPVS moves their flows by itself (expire_nodest_conn).
func retire(f Frontend, d Dest) (ServerChange, bool) {
	if f.Proto != TCP {
		return ServerChange{Verb: DelDest, Frontend: f, Dest: d}, true
	}
	if d.Weight == 0 {
		return ServerChange{}, false
	}
	return ServerChange{Verb: EditDest, Frontend: f, Dest: Dest{Addr: d.Addr}}, true
}

// compareHeads is negative when only have begins with the next address,
// positive when only want does.
func compareHeads(have, want []Dest) int {
	switch {
	case len(have) == 0:
		return 1
	case len(want) == 0:
		return -1
	}
	return have[0].Addr.Compare(want[0].Addr)
}

func rotate(changes []ServerChange, by uint32) {
	if len(changes) < 2 {
		return
	}
	n := int(by % uint32(len(changes)))
	slices.Reverse(changes[:n])
	slices.Reverse(changes[n:])
	slices.Reverse(changes)
}

func sortedFrontends(set map[Frontend]struct{}) []Frontend {
	return slices.SortedFunc(maps.Keys(set), Frontend.Compare)
}
