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

// Survey is what there is to tell of a Model beside its State. It takes time
// in proportion to the number of frontends, and is a copy.
type Survey struct {
	Owners    map[Frontend]Owner
	Conflicts []Conflict // sorted

	// Frontends that drop their clients because the endpoints of a Local
	// policy are on other nodes.
	NoLocalInternal, NoLocalExternal int
}

// Survey goes through all frontends.
func (m *Model) Survey() Survey {
	s := Survey{Owners: make(map[Frontend]Owner, len(m.claims))}
	for f := range m.claims {
		owner, _ := m.Owner(f)
		s.Owners[f] = owner
		if !m.want.Has(FrontendElement(SetDrop, f)) {
			continue
		}
		if owner.Kind == ClusterIP {
			s.NoLocalInternal++
		} else {
			s.NoLocalExternal++
		}
	}
	for f, loser := range m.Conflicts() {
		s.Conflicts = append(s.Conflicts, Conflict{f, loser, s.Owners[f]})
	}
	slices.SortFunc(s.Conflicts, func(a, b Conflict) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), cmp.Compare(a.Loser.Service.String(), b.Loser.Service.String()))
	})
	return s
}

// NodePortAddrs are the addresses that serve NodePorts now.
func (m *Model) NodePortAddrs() []netip.Addr { return slices.Clone(m.nodePortAddrs()) }
