// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// ipFamily makes the rules of one address family.
type ipFamily struct {
	v4                 bool
	proto              byte   // NFPROTO_*
	size               uint32 // of an address
	sourceAt, targetAt uint32 // offsets in the IP header
}

func families() [2]ipFamily {
	return [2]ipFamily{
		{v4: true, proto: unix.NFPROTO_IPV4, size: 4, sourceAt: 12, targetAt: 16},
		{v4: false, proto: unix.NFPROTO_IPV6, size: 16, sourceAt: 8, targetAt: 24},
	}
}

func both(rule func(ipFamily) []expr.Any) [][]expr.Any {
	f := families()
	return [][]expr.Any{rule(f[0]), rule(f[1])}
}

func join(parts ...[]expr.Any) []expr.Any {
	var rule []expr.Any
	for _, p := range parts {
		rule = append(rule, p...)
	}
	return rule
}

// Registers. Concatenations fill 4-byte registers from the first one on,
// every field in registers of its own.
const (
	firstRegister = unix.NFT_REG32_00
	spareRegister = unix.NFT_REG32_15
)

func (f ipFamily) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: spareRegister},
		&expr.Cmp{Op: expr.CmpOpEq, Register: spareRegister, Data: []byte{f.proto}},
	}
}

func (f ipFamily) load(offset, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

func (f ipFamily) source() []expr.Any      { return []expr.Any{f.load(f.sourceAt, firstRegister)} }
func (f ipFamily) destination() []expr.Any { return []expr.Any{f.load(f.targetAt, firstRegister)} }

// pair loads source . destination.
func (f ipFamily) pair() []expr.Any {
	return []expr.Any{f.load(f.sourceAt, firstRegister), f.load(f.targetAt, firstRegister+f.size/4)}
}

// tuple loads destination . protocol . destination port.
func (f ipFamily) tuple() []expr.Any {
	next := firstRegister + f.size/4
	return []expr.Any{
		f.load(f.targetAt, firstRegister),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// clientTuple loads destination . protocol . destination port . source. The
// protocol is read from the IP header: nft 1.0 lists `meta l4proto` beside a
// range in words that it cannot read back. An IPv6 packet with extension
// headers finds no element by that, which means that it is dropped.
func (f ipFamily) clientTuple() []expr.Any {
	next, protocolAt := firstRegister+f.size/4, uint32(9)
	if !f.v4 {
		protocolAt = 6
	}
	return []expr.Any{
		f.load(f.targetAt, firstRegister),
		&expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: protocolAt, Len: 1},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		f.load(f.sourceAt, next+2),
	}
}

// to replaces what was loaded by what a map has for it; no element, no match.
func (f ipFamily) to(s proxier.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: setName(s, f.v4)}}
}

// dnat sends the packet to the address . port that is loaded.
func (f ipFamily) dnat() []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: firstRegister, RegProtoMin: firstRegister + f.size/4}}
}

func (f ipFamily) in(s proxier.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: firstRegister, SetName: setName(s, f.v4)}}
}

func (f ipFamily) notIn(s proxier.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: firstRegister, SetName: setName(s, f.v4), Invert: true}}
}

func isNew() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: spareRegister},
		&expr.Bitwise{SourceRegister: spareRegister, DestRegister: spareRegister, Len: 4,
			Mask: native(expr.CtStateBitNEW), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: spareRegister, Data: native(0)},
	}
}

// isDNAT matches connections whose destination a NAT rule changed. What IPVS
// changes does not count.
func isDNAT() []expr.Any {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: spareRegister},
		&expr.Bitwise{SourceRegister: spareRegister, DestRegister: spareRegister, Len: 4, Mask: native(ipsDstNAT), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: spareRegister, Data: native(0)},
	}
}

func fromInterface(op expr.CmpOp, name []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: name},
	}
}

func addMark(bit uint32) []expr.Any { return setMark(^bit, bit) }

func hasMark(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: spareRegister},
		&expr.Bitwise{SourceRegister: spareRegister, DestRegister: spareRegister, Len: 4, Mask: native(bit), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: spareRegister, Data: native(0)},
	}
}

// setMark makes the mark (mark & mask) ^ flip.
func setMark(mask, flip uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: spareRegister},
		&expr.Bitwise{SourceRegister: spareRegister, DestRegister: spareRegister, Len: 4, Mask: native(mask), Xor: native(flip)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: spareRegister},
	}
}

// masquerade with random ports: two clients that happen to use one port would
// otherwise race for the same translation.
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

func isTCP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: spareRegister},
		&expr.Cmp{Op: expr.CmpOpEq, Register: spareRegister, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// reset refuses a TCP connection. ICMP would do it too, but the kernel sends
// no more than one of those per second to a client that asks often.
func reset() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
}

func unreachable() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
}

func verdict(kind expr.VerdictKind, to string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: to}}
}

func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }
