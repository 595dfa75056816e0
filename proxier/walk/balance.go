// SPDX-License-Identifier: Apache-2.0

package walk

import "github.com/muster-project/muster/proxier"

// refuse is the packet filter in front of IPVS.
func refuse(w *walker) bool {
	hook := "input"
	if w.own {
		hook = "output"
	}
	if w.in(proxier.SetRefused) {
		return w.end(Refused, hook, "%s has no endpoint anywhere", w.frontend())
	}
	if w.split && w.in(proxier.SetTargets) {
		return false
	}
	if cidr, ours := w.within(proxier.SetServiceCIDRs, w.packet.Dest.Addr()); ours && !w.in(proxier.SetFrontends) {
		return w.end(Refused, hook, "%s is in %s and is no frontend", w.frontend(), cidr)
	}
	if w.in(proxier.SetDrop) {
		return w.end(Dropped, hook, "%s has a Local policy, and its endpoints are on other nodes", w.frontend())
	}
	return false
}

// balance is IPVS. A real server of weight 0 takes no new connection, and a
// virtual server without any other refuses it.
func balance(w *walker) bool {
	server, ok := w.state.Servers[w.frontend()]
	if !ok {
		return w.end(NotOurs, "ipvs", "no virtual server %s", w.frontend())
	}
	w.out.Server = w.frontend()
	for _, d := range server.Dests {
		if d.Weight > 0 {
			w.out.Endpoints = append(w.out.Endpoints, Endpoint{Addr: d.Addr})
		}
	}
	if len(w.out.Endpoints) == 0 {
		return w.end(Refused, "ipvs", "virtual server %s has no real server that takes connections", w.frontend())
	}
	return w.end(Balanced, "ipvs", "virtual server %s, %s", w.frontend(), server.Scheduler)
}
