// SPDX-License-Identifier: Apache-2.0

package walk

import "github.com/muster-project/muster/proxier"

// mark notes who has to be masqueraded. The host's own packets do not pass
// here: the local route gives them a source that answers find.
func mark(w *walker) bool {
	if w.own {
		return false
	}
	if w.in(proxier.SetMasquerade) {
		w.marked = true
		w.step("prerouting", "clients of %s are masqueraded", w.frontend())
		return false
	}
	cidr, ours := w.within(proxier.SetServiceCIDRs, w.packet.Dest.Addr())
	switch {
	case !ours:
	case w.host.MasqueradeAll:
		w.marked = true
		w.step("prerouting", "all clients of %s are masqueraded", cidr)
	case !w.reachesPods():
		w.marked = true
		w.step("prerouting", "%s is no pod and asks for an address in %s: masqueraded", w.packet.Source, cidr)
	}
	return false
}

// masquerade is the way out, once for each endpoint.
func masquerade(w *walker) {
	for i := range w.out.Endpoints {
		e := &w.out.Endpoints[i]
		addr := e.Addr.Addr()
		itself := addr == w.packet.Source && w.state.Has(proxier.Element{Set: proxier.SetHairpin, Prefix: host(addr)})
		e.Masqueraded = w.marked || itself
		if itself && !w.marked {
			w.step("postrouting", "%s asks itself: masqueraded", addr)
		}
	}
}
