// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"net/netip"

	"github.com/muster-project/muster/proxier"
)

// around calls has with every prefix that holds a, the longest first, until
// it says yes.
func around(a netip.Addr, has func(netip.Prefix) bool) (netip.Prefix, bool) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if p, err := a.Prefix(bits); err == nil && has(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// within finds a's prefix in a set of prefixes.
func (w *walker) within(s proxier.Set, a netip.Addr) (netip.Prefix, bool) {
	return around(a, func(p netip.Prefix) bool { return w.state.Has(proxier.Element{Set: s, Prefix: p}) })
}

// localRoute finds the route that makes a this host's.
func (w *walker) localRoute(a netip.Addr) (netip.Prefix, bool) {
	return around(a, func(p netip.Prefix) bool {
		_, ok := w.state.Routes[p]
		return ok
	})
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
