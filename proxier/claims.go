// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Kind says which field of a Service a frontend comes from.
type Kind uint8

// The kinds.
const (
	ClusterIP Kind = iota + 1
	NodePort
	ExternalIP
	BalancerIP
	SplitTarget // stands in for the ClusterIP where that has local endpoints only
)

func (k Kind) String() string {
	names := [...]string{"nothing", "ClusterIP", "NodePort", "externalIP", "load balancer", "split target"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// external tells the kinds that clients outside the cluster use.
func (k Kind) external() bool { return k == NodePort || k == ExternalIP || k == BalancerIP }

// Owner is whose a frontend is.
type Owner struct {
	Service Name
	Port    string // name of the Service's port, may be empty
	Kind    Kind
}

// claim is a Service's wish to serve a frontend.
type claim struct {
	owner    Owner
	created  time.Time
	frontend Frontend
	server   Server
	sets     setMask
	allowed  []netip.Prefix // with SetRestricted: who may
	split    netip.AddrPort // where clients inside the cluster are led; zero is nowhere
}

// setMask is some of the sets that hold frontends.
type setMask uint16

// frontendSets are the sets in which a claim has its frontend or not.
const frontendSets = setMask(1<<SetOwned | 1<<SetFrontends | 1<<SetCapture | 1<<SetMasquerade | 1<<SetDrop | 1<<SetRefused | 1<<SetRestricted)

func (m setMask) has(s Set) bool { return m&(1<<s) != 0 }

func (m *setMask) put(s Set, on bool) {
	if on {
		*m |= 1 << s
	} else {
		*m &^= 1 << s
	}
}

// more lists the elements of a claim that are not the frontend alone.
func (c claim) more() []Element {
	var list []Element
	for _, p := range c.allowed {
		list = append(list, AllowedElement(c.frontend, p))
	}
	if c.split.IsValid() {
		list = append(list, SplitElement(c.frontend, c.split))
	}
	return list
}

// claim adds or replaces a Service's claim and puts the winner in force.
func (m *Model) claim(c claim) {
	list := m.claims[c.frontend]
	var old claim
	if len(list) > 0 {
		old = list[0]
	}
	if i := slices.IndexFunc(list, func(o claim) bool { return o.owner.Service == c.owner.Service }); i >= 0 {
		list[i] = c
	} else {
		list = append(list, c)
	}
	// A new Service may be seen before the deletion of the one whose address
	// it got. Oldest first, so all nodes agree.
	slices.SortFunc(list, func(a, b claim) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.owner.Service.String(), b.owner.Service.String()))
	})
	m.claims[c.frontend] = list
	m.serve(c.frontend, old, list[0])
}

func (m *Model) unclaim(f Frontend, by Name) {
	if len(m.claims[f]) == 0 {
		return // a Service may name an address twice
	}
	old := m.claims[f][0]
	list := slices.DeleteFunc(m.claims[f], func(c claim) bool { return c.owner.Service == by })
	if len(list) > 0 {
		m.claims[f] = list
		m.serve(f, old, list[0])
		return
	}
	delete(m.claims, f)
	m.serve(f, old, claim{})
}

// serve puts a claim in force in place of another. The zero claim is none.
func (m *Model) serve(f Frontend, old, now claim) {
	server, served := m.want.Servers[f]
	switch {
	case now.sets == 0:
		delete(m.want.Servers, f)
		m.touched.Frontends[f] = struct{}{}
	case !served || server.Options != now.server.Options || !slices.Equal(server.Dests, now.server.Dests):
		m.want.Servers[f] = now.server
		m.touched.Frontends[f] = struct{}{}
	}
	for s := range numSets {
		if frontendSets.has(s) {
			m.set(FrontendElement(s, f), now.sets.has(s))
		}
	}
	more := now.more()
	for _, e := range old.more() {
		if !slices.Contains(more, e) {
			m.set(e, false)
		}
	}
	for _, e := range more {
		m.set(e, true)
	}
}

// Owner tells whose a frontend is.
func (m *Model) Owner(f Frontend) (Owner, bool) {
	list := m.claims[f]
	if len(list) == 0 {
		return Owner{}, false
	}
	return list[0].owner, true
}
