// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"strings"

	"github.com/muster-project/muster/proxier"
)

// inside reports whether the packet is known to come from a pod.
func (w *walker) inside() bool {
	if w.host.DetectLocal.ByInterface() {
		return w.podInterface()
	}
	_, ok := w.within(proxier.SetInside, w.packet.Source)
	return ok
}

// reachesPods reports whether the answer of a pod finds the client without
// passing here.
func (w *walker) reachesPods() bool {
	if w.host.DetectLocal.ByInterface() {
		return w.podInterface()
	}
	_, ok := w.within(proxier.SetPodCIDRs, w.packet.Source)
	return ok
}

func (w *walker) podInterface() bool {
	d, in := w.host.DetectLocal, w.packet.Interface
	if d.Interface != "" {
		return in == d.Interface
	}
	return strings.HasPrefix(in, d.InterfacePrefix)
}
