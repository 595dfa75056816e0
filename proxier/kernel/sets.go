// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"github.com/muster-project/muster/proxier"
)

// setName is a set's name in the table: one set per address family.
func setName(s proxier.Set, v4 bool) string {
	if v4 {
		return s.String() + "-v4"
	}
	return s.String() + "-v6"
}

func table() *nftables.Table {
	return &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
}

// kernelSet describes one set of the table.
func kernelSet(s proxier.Set, v4 bool) *nftables.Set {
	addr := nftables.TypeIPAddr
	if !v4 {
		addr = nftables.TypeIP6Addr
	}
	set := &nftables.Set{Table: table(), Name: setName(s, v4), KeyType: addr, KeyByteOrder: binaryutil.BigEndian}
	switch {
	case s.HoldsPrefixes():
		set.Interval = true
	case s == proxier.SetHairpin:
		set.KeyType, set.Concatenation = nftables.MustConcatSetType(addr, addr), true
	default:
		set.KeyType = nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
		set.Concatenation = true
	}
	return set
}

// encodeElement is an element as the kernel keeps it. A prefix is two: where
// it begins, and the first address after it, unless there is none.
func encodeElement(e proxier.Element) []nftables.SetElement {
	addr := e.Prefix.Addr().AsSlice()
	switch {
	case e.Set.HoldsPrefixes():
		list := []nftables.SetElement{{Key: addr}}
		if after := lastAddr(e.Prefix).Next(); after.IsValid() {
			list = append(list, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
		return list
	case e.Set == proxier.SetHairpin:
		return []nftables.SetElement{{Key: append(slices.Clone(addr), addr...)}}
	}
	key := append(slices.Clone(addr), byte(e.Proto), 0, 0, 0)
	key = binary.BigEndian.AppendUint16(key, e.Port)
	return []nftables.SetElement{{Key: append(key, 0, 0)}}
}

func lastAddr(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// decodeElements is the inverse of encodeElement for a whole set.
func decodeElements(s proxier.Set, v4 bool, in []nftables.SetElement) ([]proxier.Element, error) {
	if s.HoldsPrefixes() {
		return decodePrefixes(s, in)
	}
	size := 16
	if v4 {
		size = 4
	}
	want := size + 8
	if s == proxier.SetHairpin {
		want = 2 * size
	}
	var list []proxier.Element
	for _, e := range in {
		if len(e.Key) != want {
			return nil, fmt.Errorf("an element of %d bytes in set %s, want %d", len(e.Key), setName(s, v4), want)
		}
		addr, _ := netip.AddrFromSlice(e.Key[:size])
		out := proxier.Element{Set: s, Prefix: netip.PrefixFrom(addr, addr.BitLen())}
		if s != proxier.SetHairpin {
			out.Proto = proxier.Protocol(e.Key[size])
			out.Port = binary.BigEndian.Uint16(e.Key[size+4:])
		}
		list = append(list, out)
	}
	return list, nil
}

// decodePrefixes pairs beginnings and ends, which the kernel returns in no
// promised order. Where two prefixes touch, the end of the first and the
// beginning of the second are the same address.
func decodePrefixes(s proxier.Set, in []nftables.SetElement) ([]proxier.Element, error) {
	slices.SortFunc(in, func(a, b nftables.SetElement) int {
		if order := slices.Compare(a.Key, b.Key); order != 0 {
			return order
		}
		return int(boolByte(b.IntervalEnd)) - int(boolByte(a.IntervalEnd))
	})
	var list []proxier.Element
	for i, e := range in {
		if e.IntervalEnd {
			continue
		}
		begin, ok := netip.AddrFromSlice(e.Key)
		if !ok {
			return nil, fmt.Errorf("an address of %d bytes in set %s", len(e.Key), s)
		}
		end := netip.Addr{} // the end of the address space
		if i+1 < len(in) && in[i+1].IntervalEnd {
			end, _ = netip.AddrFromSlice(in[i+1].Key)
		}
		p, ok := prefixBetween(begin, end)
		if !ok {
			return nil, fmt.Errorf("set %s has a range from %s that is no prefix", s, begin)
		}
		list = append(list, proxier.Element{Set: s, Prefix: p})
	}
	return list, nil
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// prefixBetween is the prefix from begin up to and without end.
func prefixBetween(begin, end netip.Addr) (netip.Prefix, bool) {
	for bits := begin.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(begin, bits)
		if p.Masked().Addr() == begin && lastAddr(p).Next() == end {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
