// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"slices"

	"github.com/muster-project/muster/proxier"
)

// turnAway refuses what comes from the network for frontends without
// endpoints.
func turnAway(w *walker) bool {
	if w.own || !w.in(proxier.SetRefused) {
		return false
	}
	return w.end(Refused, "prerouting", "%s has no endpoint anywhere", w.frontend())
}

// capture marks packets to frontends on addresses that are not this host's.
func capture(w *walker) bool {
	if w.own {
		return false
	}
	if w.in(proxier.SetCapture) {
		w.captured = true
		w.step("prerouting", "%s is captured", w.frontend())
	}
	return false
}

// deliver is the routing decision. Of what comes from the network, IPVS sees
// only what is for this host; of the host's own packets it sees all.
func deliver(w *walker) bool {
	if w.own || w.captured {
		return false
	}
	to := w.packet.Dest.Addr()
	if slices.Contains(w.host.Addrs, to) {
		w.step("route", "%s is this host's", to)
		return false
	}
	if prefix, ok := w.localRoute(to); ok {
		w.step("route", "%s is local by the route to %s", to, prefix)
		return false
	}
	return w.end(NotOurs, "route", "%s is elsewhere", to)
}
