// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"net/netip"

	"github.com/muster-project/muster/proxier"
)

// ranges drops clients that a frontend's source ranges leave out.
func ranges(w *walker) bool {
	if !w.in(proxier.SetRestricted) {
		return false
	}
	source, ok := around(w.packet.Source, func(p netip.Prefix) bool {
		return w.state.Has(proxier.AllowedElement(w.frontend(), p))
	})
	if !ok {
		return w.end(Dropped, w.entry(), "%s is in no source range of %s", w.packet.Source, w.frontend())
	}
	w.step(w.entry(), "source range %s admits %s", source, w.packet.Source)
	return false
}
