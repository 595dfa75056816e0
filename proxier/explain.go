// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Explanation says why a frontend has its real servers. The reasons come from
// the code that decides.
type Explanation struct {
	Frontend Frontend
	Owner    Owner
	Losers   []Owner // Services that claim it too and go without

	Local     bool // the traffic policy of this kind of frontend is Local
	Topology  Topology
	Node      string // this one
	Zone      string // of this node; may be empty
	Options   Options
	Faults    []string      // what the Service asks for and cannot have
	Endpoints []Explained   // all of this port and family, sorted by address
	Draining  []Dest        // in the kernel for their last connections
	Sets      []SetElements // where it is in the packet filter
	Missing   bool          // the last look at the kernel did not find it
}

// Explained is one endpoint of a frontend's Service.
type Explained struct {
	Endpoint
	Addr   netip.AddrPort
	Reason Reason
	Weight uint32 // it should have; 0 also for one that is not used
	Have   *Dest  // as the loop knows the kernel; nil: not there
}

// SetElements are the elements of one set that are about one frontend.
type SetElements struct {
	Set      Set
	Elements []string
}

// Explain explains one frontend. have is what the loop knows of the kernel.
func (m *Model) Explain(f Frontend, have State) (Explanation, bool) {
	claims := m.claims[f]
	if len(claims) == 0 {
		return Explanation{}, false
	}
	owner := claims[0].owner
	s := m.services[owner.Service]
	e := Explanation{
		Frontend: f, Owner: owner, Node: m.config.Node, Zone: m.node.Zone,
		Local:   owner.Kind == ClusterIP && s.InternalLocal || owner.Kind.external() && s.ExternalLocal,
		Options: m.want.Servers[f].Options, Faults: s.Faults,
	}
	for _, loser := range claims[1:] {
		e.Losers = append(e.Losers, loser.owner)
	}
	i := slices.IndexFunc(s.Ports, func(p Port) bool { return p.Name == owner.Port && p.Proto == f.Proto })
	if i < 0 {
		return e, true // the Service changed and the next pass is about it
	}
	all := merge(m.slices[owner.Service], s.Ports[i], f.Addr.Addr().Is4())
	server, there := have.Servers[f]
	e.Missing = !there
	e.judge(all, s.Tuning, server)
	for _, d := range server.Dests {
		if !slices.ContainsFunc(e.Endpoints, func(x Explained) bool { return x.Addr == d.Addr && x.Reason.Used() }) {
			e.Draining = append(e.Draining, d)
		}
	}
	e.Sets = claims[0].found(have)
	return e, true
}

// judge decides on every endpoint once more.
func (e *Explanation) judge(all []candidate, tuning Tuning, server Server) {
	selected := newSelection(all, e.Node, e.Zone)
	e.Topology = selected.topology
	for _, c := range all {
		x := Explained{Endpoint: c.Endpoint, Addr: netip.AddrPortFrom(c.Addr, c.port), Reason: selected.cluster(c)}
		if e.Local {
			x.Reason = selected.local(c)
		}
		if x.Reason.Used() {
			x.Weight = tuning.weight(c.Endpoint, e.Node)
		}
		if d, ok := find(server.Dests, x.Addr); ok {
			x.Have = &d
		}
		e.Endpoints = append(e.Endpoints, x)
	}
	slices.SortFunc(e.Endpoints, func(a, b Explained) int { return a.Addr.Compare(b.Addr) })
}

// found lists the sets that have something of a claim.
func (c claim) found(have State) []SetElements {
	var list []SetElements
	for s := range numSets {
		if frontendSets.has(s) && have.Has(FrontendElement(s, c.frontend)) {
			list = append(list, SetElements{Set: s})
		}
	}
	for _, element := range c.more() {
		if !have.Has(element) {
			continue
		}
		i := slices.IndexFunc(list, func(l SetElements) bool { return l.Set == element.Set })
		if i < 0 {
			i, list = len(list), append(list, SetElements{Set: element.Set})
		}
		list[i].Elements = append(list[i].Elements, strings.TrimPrefix(element.String(), element.Set.String()+" "))
	}
	return list
}

// FrontendsOf lists the frontends that a Service claims, sorted.
func (m *Model) FrontendsOf(service Name) []Frontend {
	list := slices.Clone(m.made[service].frontends)
	slices.SortFunc(list, Frontend.Compare)
	return slices.Compact(list)
}

// ParseFrontend reads `192.0.2.1:80/tcp` and `[2001:db8::1]:53/udp`; without
// a protocol it is tcp.
func ParseFrontend(text string) (Frontend, error) {
	where, proto, _ := strings.Cut(text, "/")
	addr, err := netip.ParseAddrPort(where)
	if err != nil {
		return Frontend{}, fmt.Errorf("%q is not ADDRESS:PORT/PROTOCOL: %w", text, err)
	}
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if p.String() == strings.ToLower(cmp.Or(proto, "tcp")) {
			return Frontend{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Proto: p}, nil
		}
	}
	return Frontend{}, fmt.Errorf("%q: the protocol is not one of tcp, udp, sctp", text)
}
