// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// TableName is the one nftables table, of family inet.
const TableName = "muster"

// Bits of the packet mark.
const (
	// DefaultMasqueradeBit asks POSTROUTING to rewrite the source and is
	// cleared there. It is kube-proxy's default, which other components know
	// to leave alone.
	DefaultMasqueradeBit = 14

	// markCapture asks for the route in captureTable. No routing decision
	// may see it after IPVS: it is cleared before. Bit 13 is the CNI portmap
	// plugin's; Calico and Cilium use higher and lower ones.
	markCapture = 1 << 12
)

// chain is one chain with its rules; hook nil is a chain to jump to.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// Priorities beside which ours only make sense: connection tracking is at
// -200, NAT of destinations at -100. IPVS takes connections from outside at
// 98 in INPUT, the host's own at -98 in OUTPUT, and a reject has to come
// before both.
const (
	priorityRanges    = -160
	priorityMark      = -150 // NF_IP_PRI_MANGLE
	prioritySplit     = -100 // NF_IP_PRI_NAT_DST
	priorityCapture   = -99
	priorityInput     = -10
	priorityOutput    = -99
	priorityUncapture = 50
	prioritySource    = 100 // NF_IP_PRI_NAT_SRC
)

// rules makes the table's chains for one configuration.
type rules struct {
	masquerade    uint32 // bit of the mark
	masqueradeAll bool
	local         proxier.DetectLocal
}

func newRules(o Options) rules {
	r := rules{masquerade: 1 << DefaultMasqueradeBit, masqueradeAll: o.MasqueradeAll, local: o.DetectLocal}
	if o.MasqueradeBit != nil {
		r.masquerade = 1 << *o.MasqueradeBit
	}
	return r
}

// chains are all rules there are. In nft's words, with TUPLE for daddr .
// protocol . dport, INSIDE for a source that is known to be a pod, and POD for
// one that is or may be:
//
//	chain ranges      { ct state new TUPLE @restricted TUPLE . saddr != @allowed drop }
//	chain ranges-in   { jump ranges }
//	chain ranges-out  { jump ranges }
//	chain prerouting  { ct state new TUPLE @refused goto turn-away
//	                    ct state new TUPLE @masquerade meta mark set mark | 0x4000
//	                    ct state new daddr @service-cidrs not POD meta mark set mark | 0x4000 }
//	chain capture     { TUPLE @capture meta mark set mark | 0x1000 }
//	chain split-in    { INSIDE dnat to TUPLE map @split }
//	chain split-out   { dnat to TUPLE map @split }
//	chain refuse      { TUPLE @refused goto turn-away
//	                    TUPLE @targets ct status dnat return
//	                    daddr @service-cidrs TUPLE != @frontends goto turn-away
//	                    TUPLE @drop drop }
//	chain turn-away   { meta l4proto tcp reject with tcp reset
//	                    reject with icmpx port-unreachable }
//	chain input       { ct state new jump refuse }
//	chain output      { ct state new jump refuse }
//	chain uncapture   { mark & 0x1000 meta mark set mark & ~0x1000 }
//	chain postrouting { saddr . daddr @hairpin masquerade
//	                    mark & 0x4000 meta mark set mark ^ 0x4000 masquerade }
//
// once per address family where they name addresses. The host's own
// connections do not pass prerouting and need no masquerade: the source of
// the local route is an address that answers find.
//
// IPVS would refuse by itself what has no endpoint, with ICMP: one a second to
// each client, none from an address that is not this host's, and over IPv6 the
// host itself learns of it by its second SYN only. What comes from the network
// is refused before it is routed, where an address need not be ours.
//
// Capture comes after NAT of destinations: connection tracking sends the later
// packets of what was split straight to the pod, and the mark would send them
// here instead. The same is true of connections that kube-proxy began.
func (r rules) chains() []chain {
	return []chain{
		{name: "ranges", rules: both(outOfRange)},
		{name: "ranges-in", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: priorityRanges, rules: newGoTo("ranges")},
		{name: "ranges-out", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: priorityRanges, rules: newGoTo("ranges")},
		{name: "prerouting", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: priorityMark, rules: slices.Concat(
			both(func(f ipFamily) []expr.Any {
				return join(isNew(), f.is(), f.tuple(), f.in(proxier.SetRefused), verdict(expr.VerdictGoto, "turn-away"))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(isNew(), f.is(), f.tuple(), f.in(proxier.SetMasquerade), addMark(r.masquerade))
			}),
			both(r.fromOutside))},
		{name: "capture", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: priorityCapture,
			rules: both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.in(proxier.SetCapture), addMark(markCapture))
			})},
		{name: "split-in", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, priority: prioritySplit,
			rules: both(func(f ipFamily) []expr.Any {
				return join(r.inside(f, true), f.is(), f.tuple(), f.to(proxier.SetSplit), f.dnat())
			})},
		{name: "split-out", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: prioritySplit,
			rules: both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.to(proxier.SetSplit), f.dnat())
			})},
		{name: "refuse", rules: slices.Concat(
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.in(proxier.SetRefused), verdict(expr.VerdictGoto, "turn-away"))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.in(proxier.SetTargets), isDNAT(), verdict(expr.VerdictReturn, ""))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.destination(), f.in(proxier.SetServiceCIDRs), f.tuple(), f.notIn(proxier.SetFrontends),
					verdict(expr.VerdictGoto, "turn-away"))
			}),
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.tuple(), f.in(proxier.SetDrop), verdict(expr.VerdictDrop, ""))
			}))},
		{name: "turn-away", rules: [][]expr.Any{join(isTCP(), reset()), unreachable()}},
		{name: "input", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: priorityInput, rules: newGoTo("refuse")},
		{name: "output", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: priorityOutput, rules: newGoTo("refuse")},
		{name: "uncapture", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: priorityUncapture,
			rules: [][]expr.Any{join(hasMark(markCapture), setMark(^uint32(markCapture), 0))}},
		{name: "postrouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: prioritySource, rules: append(
			both(func(f ipFamily) []expr.Any {
				return join(f.is(), f.pair(), f.in(proxier.SetHairpin), masquerade())
			}),
			join(hasMark(r.masquerade), setMark(^uint32(0), r.masquerade), masquerade()))},
	}
}

// newGoTo looks at the first packet of each connection only.
func newGoTo(chain string) [][]expr.Any {
	return [][]expr.Any{join(isNew(), verdict(expr.VerdictJump, chain))}
}

func outOfRange(f ipFamily) []expr.Any {
	return join(f.is(), f.tuple(), f.in(proxier.SetRestricted), f.clientTuple(), f.notIn(proxier.SetAllowed), verdict(expr.VerdictDrop, ""))
}

// fromOutside masquerades clients of ClusterIPs whose pods' answers might
// take another way.
func (r rules) fromOutside(f ipFamily) []expr.Any {
	if r.masqueradeAll {
		return join(isNew(), f.is(), f.destination(), f.in(proxier.SetServiceCIDRs), addMark(r.masquerade))
	}
	toService := join(isNew(), f.is(), f.destination(), f.in(proxier.SetServiceCIDRs))
	if r.local.ByInterface() {
		return join(toService, r.inside(f, false), addMark(r.masquerade))
	}
	return join(toService, f.source(), f.notIn(proxier.SetPodCIDRs), addMark(r.masquerade))
}

// inside tests whether a packet comes from a pod, or that it does not.
func (r rules) inside(f ipFamily, is bool) []expr.Any {
	op, from := expr.CmpOpEq, f.in(proxier.SetInside)
	if !is {
		op, from = expr.CmpOpNeq, f.notIn(proxier.SetInside)
	}
	switch {
	case r.local.Interface != "":
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, r.local.Interface)
		return fromInterface(op, name)
	case r.local.InterfacePrefix != "":
		return fromInterface(op, []byte(r.local.InterfacePrefix))
	}
	return join(f.is(), f.source(), from)
}
