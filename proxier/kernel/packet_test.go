// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/walk"
)

// follow is what the rules and the virtual servers of s do to a packet.
func (m *machine) follow(s proxier.State, h walk.Host, p walk.Packet) string {
	m.receive(p)
	in, near := nftables.ChainHookPrerouting, nftables.ChainHookInput
	own := slices.Contains(h.Addrs, p.Source)
	if own {
		in, near = nftables.ChainHookOutput, nil // IPVS takes the host's own packets in OUTPUT
	}
	for _, hook := range []*nftables.ChainHook{in, near} {
		if hook == nil {
			continue
		}
		if hook == near && !m.delivered(s, h) {
			return "not ours"
		}
		switch m.hook(hook) {
		case drop:
			return "dropped"
		case reject:
			return "refused"
		}
	}
	if !own && m.mark&markCapture != 0 {
		m.t.Errorf("%s keeps the mark that routes it here", p)
	}
	out := m.balance(s)
	if !own {
		m.followLater(s, h, p, out.Endpoints)
	}
	return out.String()
}

// followLater sends a second packet of a connection that was balanced. If NAT
// began it, NAT knows the endpoint and the packet has to go there; if not, it
// has to come to IPVS.
func (m *machine) followLater(s proxier.State, h walk.Host, p walk.Packet, endpoints []walk.Endpoint) {
	split := m.translated
	for _, e := range endpoints {
		m.receive(p)
		m.later = true
		if split {
			m.tracked = e.Addr
		}
		if f := m.hook(nftables.ChainHookPrerouting); f != nothing {
			m.t.Errorf("%s: a later packet meets fate %d", p, f)
		}
		if m.delivered(s, h) == split {
			m.t.Errorf("%s, led inside the cluster %t: a later packet, for %s then, comes here %t", p, split, m.packet.Dest, !split)
		}
	}
}

func (m *machine) delivered(s proxier.State, h walk.Host) bool {
	to := m.packet.Dest.Addr()
	for prefix := range s.Routes {
		if prefix.Contains(to) {
			return true
		}
	}
	return slices.Contains(h.Addrs, to) || m.mark&markCapture != 0
}

// balance is IPVS and the way out.
func (m *machine) balance(s proxier.State) walk.Outcome {
	server, ok := s.Servers[proxier.Frontend{Addr: m.packet.Dest, Proto: m.packet.Proto}]
	if !ok {
		return walk.Outcome{}
	}
	out := walk.Outcome{Verdict: walk.Refused}
	before := m.mark
	for _, d := range server.Dests {
		m.packet.Dest, m.mark, m.masqueraded = d.Addr, before, false
		m.hook(nftables.ChainHookPostrouting)
		out.Verdict = walk.Balanced
		out.Endpoints = append(out.Endpoints, walk.Endpoint{Addr: d.Addr, Masqueraded: m.masqueraded})
	}
	return out
}

// TestTheRulesDoWhatTheWalkSays sends packets from everywhere to everywhere,
// so that the walk, which is compared with kube-proxy, cannot be right while
// the rules are wrong.
func TestTheRulesDoWhatTheWalkSays(t *testing.T) {
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	for name, o := range map[string]Options{
		"nothing known": {},
		"by address":    {DetectLocal: proxier.DetectLocal{CIDRs: pods}},
		"by bridge":     {DetectLocal: proxier.DetectLocal{Interface: "cni0"}},
		"by prefix":     {DetectLocal: proxier.DetectLocal{InterfacePrefix: "veth"}},
		"all":           {DetectLocal: proxier.DetectLocal{CIDRs: pods}, MasqueradeAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := exampleState(o.DetectLocal)
			h := walk.Host{Addrs: nodeAddrs(), DetectLocal: o.DetectLocal, MasqueradeAll: o.MasqueradeAll}
			m := newMachine(t, newRules(o), s)
			seen := map[walk.Verdict]int{}
			for _, p := range examplePackets(s, o.DetectLocal.ByInterface()) {
				want := walk.Walk(s, h, p)
				seen[want.Verdict]++
				if got := m.follow(s, h, p); got != want.String() {
					t.Errorf("%s by %q: the rules say %s, the walk %s:\n%v", p, p.Interface, got, want, want.Steps)
				}
			}
			for v := walk.NotOurs; v <= walk.Dropped; v++ {
				if seen[v] == 0 {
					t.Errorf("no packet was %s", v)
				}
			}
		})
	}
}

func nodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("2001:db8::2")}
}

// exampleState has a Service for each pair of policies, with endpoints here
// and elsewhere, elsewhere only, and nowhere.
func exampleState(detect proxier.DetectLocal) proxier.State {
	m := proxier.NewModel(proxier.Config{Node: "here", DetectLocal: detect})
	m.SetNode(proxier.Node{Addrs: nodeAddrs()})
	m.SetServiceCIDR("kubernetes", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")})
	for i := range 12 {
		number := func(v4, v6 string) []netip.Addr {
			return []netip.Addr{netip.MustParseAddr(fmt.Sprintf(v4, i+1)), netip.MustParseAddr(fmt.Sprintf(v6, i+1))}
		}
		s := proxier.Service{
			Name:          proxier.Name{Namespace: "default", Name: fmt.Sprint("service-", i)},
			ClusterIPs:    number("10.96.0.%d", "fd00:96::%x"),
			ExternalIPs:   number("198.51.100.%d", "2001:db8:100::%x"),
			BalancerIPs:   number("198.51.101.%d", "2001:db8:101::%x"),
			SourceRanges:  []netip.Prefix{netip.MustParsePrefix("203.0.113.0/25"), netip.MustParsePrefix("2001:db8:113::/48")},
			Ports:         []proxier.Port{{Proto: proxier.TCP, Port: 80, NodePort: uint16(30000 + i)}, {Name: "udp", Proto: proxier.UDP, Port: 53, NodePort: uint16(30000 + i)}},
			InternalLocal: i&1 != 0,
			ExternalLocal: i&2 != 0,
		}
		m.SetService(s)
		slice := proxier.Slice{Name: s.Name, Service: s.Name, Ports: []proxier.SlicePort{{Proto: proxier.TCP, Port: 8080}, {Name: "udp", Proto: proxier.UDP, Port: 8053}}}
		for _, e := range []struct{ v4, v6, node string }{{"10.244.0.1", "fd00:244::1", "here"}, {"10.244.1.1", "fd00:244:0:1::1", "there"}}[min(i/4, 2):] {
			for _, a := range []string{e.v4, e.v6} {
				slice.Endpoints = append(slice.Endpoints, proxier.Endpoint{Addr: netip.MustParseAddr(a), Node: e.node, Ready: true})
			}
		}
		m.SetSlice(slice)
	}
	m.Update()
	return m.Want()
}

// examplePackets come from pods, endpoints, the host, and strangers in and out
// of the ranges, and go to every frontend and beside it. Where interfaces
// matter, each comes by several.
func examplePackets(s proxier.State, interfaces bool) []walk.Packet {
	sources := []string{
		"10.244.0.9", "10.244.0.1", "10.244.1.1", "192.168.0.2", "203.0.113.1", "203.0.113.129",
		"fd00:244::9", "fd00:244::1", "2001:db8::2", "2001:db8:113::1", "2001:db8:114::1",
	}
	to := []proxier.Frontend{{Addr: netip.MustParseAddrPort("8.8.8.8:53"), Proto: proxier.UDP}, {Addr: netip.MustParseAddrPort("[2001:4860::8]:53"), Proto: proxier.UDP}}
	for f := range s.Servers {
		to = append(to, f, proxier.Frontend{Addr: netip.AddrPortFrom(f.Addr.Addr(), f.Addr.Port()+1), Proto: f.Proto}, proxier.Frontend{Addr: f.Addr, Proto: proxier.SCTP})
	}
	by := []string{"eth0"}
	if interfaces {
		by = append(by, "cni0", "veth1")
	}
	var list []walk.Packet
	for _, source := range sources {
		from := netip.MustParseAddr(source)
		for _, f := range to {
			if from.Is4() != f.Addr.Addr().Is4() {
				continue
			}
			for _, name := range by {
				list = append(list, walk.Packet{Source: from, Dest: f.Addr, Proto: f.Proto, Interface: name})
			}
		}
	}
	return list
}
