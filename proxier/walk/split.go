// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"net/netip"

	"github.com/muster-project/muster/proxier"
)

// split leads clients inside the cluster to all endpoints of a Service whose
// outside clients get local ones only.
func split(w *walker) bool {
	if !w.own && !w.inside() {
		return false
	}
	to, ok := w.target()
	if !ok {
		return false
	}
	w.step(w.entry(), "%s is inside the cluster: %s instead of %s", w.packet.Source, to, w.packet.Dest)
	w.packet.Dest, w.split = to, true
	return false
}

// target is where the destination's clients inside the cluster are led to.
func (w *walker) target() (netip.AddrPort, bool) {
	f := w.frontend()
	for e := range w.state.Elements {
		if e.Set == proxier.SetSplit && e.Frontend() == f {
			return e.Target(), true
		}
	}
	return netip.AddrPort{}, false
}
