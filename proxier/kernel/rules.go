// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// TableName is the one nftables table, of family inet.
const TableName = "muster"

// markMasquerade is the packet mark bit that asks POSTROUTING to rewrite the
// source. It is kube-proxy's default masqueradeBit, which other components
// know to leave alone. It is cleared there again.
const markMasquerade = 0x4000

// chain is one chain with its rules; hook nil is a chain to jump to.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// Priorities beside which ours only make sense: IPVS takes connections from
// outside at 98 in INPUT, the host's own at -98 in OUTPUT, and a reject has to
// come before both. NAT of the host's own packets is at -100.
const (
	priorityMark   = -150 // NF_IP_PRI_MANGLE
	priorityInput  = -10
	priorityOutput = -99
	prioritySource = 100 // NF_IP_PRI_NAT_SRC
)

// chains are all rules there are. In nft's words:
//
//	chain prerouting  { ct state new TUPLE @masquerade meta mark set mark | 0x4000
//	                    ct state new daddr @service-cidrs saddr != @pod-cidrs meta mark set mark | 0x4000 }
//	chain refuse      { daddr @service-cidrs TUPLE != @frontends goto turn-away
//	                    TUPLE @drop drop }
//	chain turn-away   { meta l4proto tcp reject with tcp reset
//	                    reject with icmpx port-unreachable }
//	chain input       { ct state new jump refuse }
//	chain output      { ct state new jump refuse }
//	chain postrouting { saddr . daddr @hairpin masquerade
//	                    mark & 0x4000 meta mark set mark ^ 0x4000 masquerade }
//
// once per address family where they name addresses. The host's own
// connections do not pass prerouting and need no masquerade: the source of
// the local route is an address that answers find.
func chains() []chain {
	return []chain{
		{name: "prerouting", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: priorityMark, rules: append(
			both(func(f ipFamily) []expr.Any {
				return join(isNew(), f.is(), f.tuple(), f.in(proxier.SetMasquerade), setMark(^uint32(markMasquerade), markMasquerade))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(isNew(), f.is(), f.destination(), f.in(proxier.SetServiceCIDRs), f.source(), f.notIn(proxier.SetPodCIDRs),
					setMark(^uint32(markMasquerade), markMasquerade))
			})...)},
		{name: "refuse", rules: append(
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.destination(), f.in(proxier.SetServiceCIDRs), f.tuple(), f.notIn(proxier.SetFrontends),
					verdict(expr.VerdictGoto, "turn-away"))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.in(proxier.SetDrop), verdict(expr.VerdictDrop, ""))
			})...)},
		{name: "turn-away", rules: [][]expr.Any{join(isTCP(), reset()), unreachable()}},
		{name: "input", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: priorityInput,
			rules: [][]expr.Any{join(isNew(), verdict(expr.VerdictJump, "refuse"))}},
		{name: "output", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: priorityOutput,
			rules: [][]expr.Any{join(isNew(), verdict(expr.VerdictJump, "refuse"))}},
		{name: "postrouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: prioritySource, rules: append(
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.pair(), f.in(proxier.SetHairpin), masquerade())
			}),
			join(hasMark(markMasquerade), setMark(^uint32(0), markMasquerade), masquerade()))},
	}
}

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
