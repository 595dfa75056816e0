// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/walk"
)

// machine runs the rules on a packet as nf_tables would, register by register.
type machine struct {
	t      *testing.T
	chains []chain
	sets   map[string]*memory

	packet      walk.Packet    // its destination changes
	later       bool           // not the first packet of its connection
	tracked     netip.AddrPort // where NAT sends later packets; zero is nowhere else
	mark        uint32
	translated  bool // conntrack's IPS_DST_NAT
	masqueraded bool
	registers   [64]byte
}

// memory is a set in the kernel.
type memory struct {
	keySize  int // in bytes
	prefixes bool
	elements []nftables.SetElement // those that are ranges
	exact    map[string]nftables.SetElement
}

func newMachine(t *testing.T, r rules, s proxier.State) *machine {
	m := &machine{t: t, chains: r.chains(), sets: map[string]*memory{}}
	for _, set := range proxier.Sets() {
		for _, v4 := range []bool{true, false} {
			m.sets[setName(set, v4)] = &memory{keySize: int(kernelSet(set, v4).KeyType.Bytes), prefixes: set.HoldsPrefixes(), exact: map[string]nftables.SetElement{}}
		}
	}
	for e := range s.Elements {
		set := m.sets[setName(e.Set, e.Prefix.Addr().Is4())]
		for _, raw := range encodeElement(e) {
			if set.prefixes || raw.KeyEnd != nil {
				set.elements = append(set.elements, raw)
			} else {
				set.exact[string(raw.Key)] = raw
			}
		}
	}
	return m
}

// receive begins with another packet.
func (m *machine) receive(p walk.Packet) {
	*m = machine{t: m.t, chains: m.chains, sets: m.sets, packet: p}
}

// fate is what a rule or a chain decides.
type fate uint8

const (
	nothing fate = iota // the next rule decides
	leave               // this chain
	drop
	reject
)

// hook runs the chains of one hook in the order of their priorities.
func (m *machine) hook(at *nftables.ChainHook) fate {
	var here []chain
	for _, c := range m.chains {
		if c.hook != nil && *c.hook == *at {
			here = append(here, c)
		}
	}
	slices.SortStableFunc(here, func(a, b chain) int { return cmp.Compare(a.priority, b.priority) })
	for _, c := range here {
		if m.tracked.IsValid() && c.priority >= prioritySplit {
			m.packet.Dest = m.tracked
		}
		if m.later && c.kind == nftables.ChainTypeNAT {
			continue // only first packets see these
		}
		if f := m.chain(c.name); f > leave {
			return f
		}
	}
	return nothing
}

func (m *machine) chain(name string) fate {
	at := slices.IndexFunc(m.chains, func(c chain) bool { return c.name == name })
	if at < 0 {
		m.t.Fatalf("no chain %q", name)
	}
	for _, rule := range m.chains[at].rules {
		if f := m.rule(rule); f != nothing {
			return f
		}
	}
	return nothing
}

func (m *machine) rule(rule []expr.Any) fate {
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Verdict:
			return m.verdict(e)
		case *expr.Reject:
			return reject
		case *expr.Masq:
			m.masqueraded = true
			return leave
		case *expr.NAT:
			size := m.addr(0).BitLen() / 8
			to, _ := netip.AddrFromSlice(m.register(e.RegAddrMin, size))
			m.packet.Dest = netip.AddrPortFrom(to, binary.BigEndian.Uint16(m.register(e.RegProtoMin, 2)))
			m.translated = true
			return leave
		default:
			if !m.step(e) {
				return nothing
			}
		}
	}
	return nothing
}

func (m *machine) verdict(v *expr.Verdict) fate {
	switch v.Kind {
	case expr.VerdictDrop:
		return drop
	case expr.VerdictReturn:
		return leave
	case expr.VerdictJump:
		if f := m.chain(v.Chain); f != leave {
			return f
		}
		return nothing
	case expr.VerdictGoto:
		return max(leave, m.chain(v.Chain))
	}
	m.t.Fatalf("verdict %v", v.Kind)
	return nothing
}

// step runs an expression that decides nothing and reports whether the rule
// goes on.
func (m *machine) step(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		if e.SourceRegister {
			m.mark = binaryutil.NativeEndian.Uint32(m.register(e.Register, 4))
			return true
		}
		m.load(e.Register, m.meta(e.Key))
	case *expr.Payload:
		m.load(e.DestRegister, m.header(e.Base)[e.Offset:e.Offset+e.Len])
	case *expr.Ct:
		m.load(e.Register, m.conntrack(e.Key))
	case *expr.Bitwise:
		in := m.register(e.SourceRegister, int(e.Len))
		for i := range in {
			in[i] = in[i]&e.Mask[i] ^ e.Xor[i]
		}
		m.load(e.DestRegister, in)
	case *expr.Cmp:
		return bytes.Equal(m.register(e.Register, len(e.Data)), e.Data) == (e.Op == expr.CmpOpEq)
	case *expr.Lookup:
		set := m.sets[e.SetName]
		found, ok := set.find(m.register(e.SourceRegister, set.keySize))
		if ok && e.IsDestRegSet {
			m.load(e.DestRegister, found.Val)
		}
		return ok != e.Invert
	default:
		m.t.Fatalf("expression %T", e)
	}
	return true
}

// register returns a copy. The first four registers are those of 16 bytes.
func (m *machine) register(r uint32, size int) []byte {
	at := int(r-unix.NFT_REG32_00) * 4
	if r < unix.NFT_REG32_00 {
		at = int(r-unix.NFT_REG_1) * 16
	}
	return slices.Clone(m.registers[at : at+size])
}

// load fills whole registers of 4 bytes.
func (m *machine) load(r uint32, data []byte) {
	at := int(r-unix.NFT_REG32_00) * 4
	if r < unix.NFT_REG32_00 {
		at = int(r-unix.NFT_REG_1) * 16
	}
	clear(m.registers[at : at+(len(data)+3)/4*4])
	copy(m.registers[at:], data)
}

func (m *machine) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyNFPROTO:
		if m.packet.Source.Is4() {
			return []byte{unix.NFPROTO_IPV4}
		}
		return []byte{unix.NFPROTO_IPV6}
	case expr.MetaKeyL4PROTO:
		return []byte{byte(m.packet.Proto)}
	case expr.MetaKeyMARK:
		return native(m.mark)
	case expr.MetaKeyIIFNAME:
		return append([]byte(m.packet.Interface), make([]byte, unix.IFNAMSIZ-len(m.packet.Interface))...)
	}
	m.t.Fatalf("meta key %v", key)
	return nil
}

func (m *machine) conntrack(key expr.CtKey) []byte {
	switch {
	case key == expr.CtKeySTATE && m.later:
		return native(expr.CtStateBitESTABLISHED)
	case key == expr.CtKeySTATE:
		return native(expr.CtStateBitNEW)
	case key == expr.CtKeySTATUS && m.translated:
		return native(1 << 5) // IPS_DST_NAT
	case key == expr.CtKeySTATUS:
		return native(0)
	}
	m.t.Fatalf("connection tracking key %v", key)
	return nil
}

func (m *machine) addr(destination int) netip.Addr {
	return [2]netip.Addr{m.packet.Source, m.packet.Dest.Addr()}[destination]
}

func (m *machine) header(base expr.PayloadBase) []byte {
	if base == expr.PayloadBaseTransportHeader {
		return binary.BigEndian.AppendUint16([]byte{0, 0}, m.packet.Dest.Port())
	}
	size, protocolAt, source := 20, 9, 12
	if !m.packet.Source.Is4() {
		size, protocolAt, source = 40, 6, 8
	}
	raw := make([]byte, size)
	raw[protocolAt] = byte(m.packet.Proto)
	copy(raw[source:], append(m.addr(0).AsSlice(), m.addr(1).AsSlice()...))
	return raw
}

// find looks a key up: the same bytes, bytes in a range, or in a set of
// prefixes a beginning that no end follows.
func (s *memory) find(key []byte) (nftables.SetElement, bool) {
	if s.prefixes {
		return s.findPrefix(key)
	}
	for _, e := range s.elements {
		if bytes.Compare(e.Key, key) <= 0 && bytes.Compare(key, e.KeyEnd) <= 0 {
			return e, true
		}
	}
	e, ok := s.exact[string(key)]
	return e, ok
}

func (s *memory) findPrefix(key []byte) (nftables.SetElement, bool) {
	var last nftables.SetElement
	for _, e := range s.elements {
		order := bytes.Compare(e.Key, last.Key)
		// Where one prefix ends and the next begins, the beginning counts.
		if bytes.Compare(e.Key, key) <= 0 && (order > 0 || order == 0 && !e.IntervalEnd) {
			last = e
		}
	}
	return last, last.Key != nil && !last.IntervalEnd
}
