// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func compareElement(a, b Element) int {
	return cmp.Or(
		cmp.Compare(a.Set, b.Set),
		comparePrefix(a.Prefix, b.Prefix),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Proto, b.Proto),
		comparePrefix(a.Peer, b.Peer),
		cmp.Compare(a.PeerPort, b.PeerPort),
	)
}

func compareDest(a, b Dest) int { return a.Addr.Compare(b.Addr) }

func sortedNames[V any](m map[Name]V) []Name {
	return slices.SortedFunc(maps.Keys(m), func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func deletionsFirst(a, b SetChange) int {
	switch {
	case a.Del == b.Del:
		return 0
	case a.Del:
		return -1
	}
	return 1
}
