// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
)

// Conflict is a frontend that two Services claim.
type Conflict struct {
	Frontend      Frontend
	Loser, Winner Owner
}

// Fault is something that a Service asks for and cannot have.
type Fault struct {
	Service Name
	What    string
}

// Survey is what there is to tell of a Model beside its State. It takes time
// in proportion to the number of frontends, and is a copy.
type Survey struct {
	Conflicts []Conflict // sorted
	Faults    []Fault    // sorted

	// Frontends that drop their clients because the endpoints of a Local
	// policy are on other nodes.
	NoLocalInternal, NoLocalExternal int
}

// Survey goes through all frontends.
func (m *Model) Survey() Survey {
	var s Survey
	for f, claims := range m.claims {
		switch {
		case !claims[0].sets.has(SetDrop):
		case claims[0].owner.Kind == ClusterIP:
			s.NoLocalInternal++
		default:
			s.NoLocalExternal++
		}
		for _, loser := range claims[1:] {
			s.Conflicts = append(s.Conflicts, Conflict{f, loser.owner, claims[0].owner})
		}
	}
	for name, service := range m.services {
		for _, what := range service.Faults {
			s.Faults = append(s.Faults, Fault{name, what})
		}
	}
	slices.SortFunc(s.Conflicts, func(a, b Conflict) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), cmp.Compare(a.Loser.Service.String(), b.Loser.Service.String()))
	})
	slices.SortFunc(s.Faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), cmp.Compare(a.What, b.What))
	})
	return s
}

// NodePortAddrs are the addresses that serve NodePorts now.
func (m *Model) NodePortAddrs() []netip.Addr { return slices.Clone(m.nodePortAddrs()) }

// HasService reports whether there is such a Service.
func (m *Model) HasService(n Name) bool {
	_, ok := m.services[n]
	return ok
}
