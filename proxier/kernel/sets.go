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
	switch s {
	case proxier.SetServiceCIDRs, proxier.SetPodCIDRs, proxier.SetInside:
		set.Interval = true
		return set
	case proxier.SetHairpin:
		set.KeyType = nftables.MustConcatSetType(addr, addr)
	case proxier.SetAllowed:
		set.KeyType = nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService, addr)
		set.Interval = true
	case proxier.SetSplit:
		set.KeyType = nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
		set.DataType = nftables.MustConcatSetType(addr, nftables.TypeInetService)
		set.IsMap = true
	default:
		set.KeyType = nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
	}
	set.Concatenation = true
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
	key = append(binary.BigEndian.AppendUint16(key, e.Port), 0, 0)
	switch e.Set {
	case proxier.SetAllowed:
		return []nftables.SetElement{{
			Key:    append(slices.Clone(key), e.Peer.Masked().Addr().AsSlice()...),
			KeyEnd: append(slices.Clone(key), lastAddr(e.Peer).AsSlice()...),
		}}
	case proxier.SetSplit:
		to := binary.BigEndian.AppendUint16(e.Peer.Addr().AsSlice(), e.PeerPort)
		return []nftables.SetElement{{Key: key, Val: append(to, 0, 0)}}
	}
	return []nftables.SetElement{{Key: key}}
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
	var list []proxier.Element
	for _, in := range in {
		e, ok := decodeElement(s, v4, in)
		if !ok {
			return nil, fmt.Errorf("set %s has an element with a key of %d bytes and a value of %d", setName(s, v4), len(in.Key), len(in.Val))
		}
		list = append(list, e)
	}
	return list, nil
}

func decodeElement(s proxier.Set, v4 bool, in nftables.SetElement) (proxier.Element, bool) {
	size := 16
	if v4 {
		size = 4
	}
	value, want := 0, size+8
	switch s {
	case proxier.SetHairpin:
		want = 2 * size
	case proxier.SetAllowed:
		want = 2*size + 8
	case proxier.SetSplit:
		value = size + 4
	}
	if len(in.Key) != want || len(in.Val) < value {
		return proxier.Element{}, false
	}
	out := proxier.Element{Set: s, Prefix: hostPrefix(in.Key[:size])}
	if s == proxier.SetHairpin {
		return out, true
	}
	out.Proto, out.Port = proxier.Protocol(in.Key[size]), binary.BigEndian.Uint16(in.Key[size+4:])
	switch s {
	case proxier.SetAllowed:
		if len(in.KeyEnd) != want {
			return out, false
		}
		begin, last := hostPrefix(in.Key[size+8:]).Addr(), hostPrefix(in.KeyEnd[size+8:]).Addr()
		var ok bool
		out.Peer, ok = prefixBetween(begin, last.Next())
		return out, ok
	case proxier.SetSplit:
		out.Peer, out.PeerPort = hostPrefix(in.Val[:size]), binary.BigEndian.Uint16(in.Val[size:])
	}
	return out, true
}

func hostPrefix(raw []byte) netip.Prefix {
	a, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(a, a.BitLen())
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
