// SPDX-License-Identifier: Apache-2.0

package proxiertest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-project/muster/proxier"
)

// state reads servers as `FRONTEND/PROTO SCHEDULER=DEST,DEST` and adds the
// elements that make them ours and reachable.
func state(servers ...string) proxier.State {
	s := proxier.NewState()
	for _, text := range servers {
		name, rest, _ := strings.Cut(text, " ")
		scheduler, list, _ := strings.Cut(rest, "=")
		server := proxier.Server{Options: proxier.Options{Scheduler: scheduler}}
		for _, d := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			server.Dests = append(server.Dests, dest(d))
		}
		serve(s, frontend(name), server)
	}
	return s
}

func serve(s proxier.State, f proxier.Frontend, server proxier.Server) {
	slices.SortFunc(server.Dests, func(a, b proxier.Dest) int { return a.Addr.Compare(b.Addr) })
	s.Servers[f] = server
	s.Elements[proxier.FrontendElement(proxier.SetOwned, f)] = struct{}{}
	s.Elements[proxier.FrontendElement(proxier.SetFrontends, f)] = struct{}{}
}

func frontend(text string) proxier.Frontend {
	addr, name, _ := strings.Cut(text, "/")
	for _, p := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
		if p.String() == name {
			return proxier.Frontend{Addr: netip.MustParseAddrPort(addr), Proto: p}
		}
	}
	panic(fmt.Sprintf("frontend %q: no such protocol", text))
}

func dest(text string) proxier.Dest {
	return proxier.Dest{Addr: netip.MustParseAddrPort(text), Weight: 1}
}

// Random returns a State of the kind a Model makes, small enough that two of
// them have much in common.
func Random(r *rand.Rand) proxier.State {
	s := proxier.NewState()
	protocols := []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP}
	schedulers := []string{"rr", "mh", "lc"}
	for range r.IntN(12) {
		v6 := r.IntN(3) == 0
		f := proxier.Frontend{Addr: randomAddr(r, v6, 96), Proto: protocols[r.IntN(len(protocols))]}
		if _, twice := s.Servers[f]; twice {
			continue
		}
		server := proxier.Server{Options: proxier.Options{Scheduler: schedulers[r.IntN(len(schedulers))]}}
		if r.IntN(4) == 0 {
			server.Flags, server.Timeout = proxier.FlagPersistent, uint32(1+r.IntN(3))*60
		}
		for range r.IntN(5) {
			d := proxier.Dest{Addr: randomAddr(r, v6, 244), Weight: 1}
			if !slices.ContainsFunc(server.Dests, func(o proxier.Dest) bool { return o.Addr == d.Addr }) {
				server.Dests = append(server.Dests, d)
			}
		}
		serve(s, f, server)
		for _, set := range []proxier.Set{proxier.SetMasquerade, proxier.SetDrop, proxier.SetCapture, proxier.SetRefused, proxier.SetTargets} {
			if r.IntN(3) == 0 {
				s.Elements[proxier.FrontendElement(set, f)] = struct{}{}
			}
		}
		randomClients(r, s, f)
	}
	randomPrefixes(r, s)
	return s
}

// randomClients adds who may use a frontend and where some are led instead.
func randomClients(r *rand.Rand, s proxier.State, f proxier.Frontend) {
	v6 := f.Addr.Addr().Is6()
	if r.IntN(3) == 0 {
		s.Elements[proxier.SplitElement(f, randomAddr(r, v6, 97))] = struct{}{}
	}
	if r.IntN(3) > 0 {
		return
	}
	s.Elements[proxier.FrontendElement(proxier.SetRestricted, f)] = struct{}{}
	ranges := [][]string{{"10.0.0.0/8"}, {"10.1.0.0/16", "192.0.2.7/32"}, {"0.0.0.0/0"}, {}}
	if v6 {
		ranges = [][]string{{"fd00::/8"}, {"fd01::/16", "2001:db8::7/128"}, {"::/0"}, {}}
	}
	for _, text := range ranges[r.IntN(len(ranges))] {
		s.Elements[proxier.AllowedElement(f, netip.MustParsePrefix(text))] = struct{}{}
	}
}

func randomPrefixes(r *rand.Rand, s proxier.State) {
	for _, text := range []string{"10.96.0.0/15", "10.96.0.0/16", "10.98.0.0/16", "fd00:96::/112"} {
		p := netip.MustParsePrefix(text)
		overlaps := func(o netip.Prefix) bool { return o.Overlaps(p) }
		taken := false
		for o := range s.Routes {
			taken = taken || overlaps(o)
		}
		if taken || r.IntN(2) == 0 {
			continue
		}
		node := NodeAddrs()[0]
		if p.Addr().Is6() {
			node = NodeAddrs()[1]
		}
		s.Routes[p] = node
		s.Elements[proxier.Element{Set: proxier.SetServiceCIDRs, Prefix: p}] = struct{}{}
	}
	for range r.IntN(4) {
		a := randomAddr(r, r.IntN(2) == 0, 244).Addr()
		s.Elements[proxier.Element{Set: proxier.SetHairpin, Prefix: netip.PrefixFrom(a, a.BitLen())}] = struct{}{}
	}
}

func randomAddr(r *rand.Rand, v6 bool, net byte) netip.AddrPort {
	port := uint16(80 + r.IntN(2))
	if v6 {
		a := [16]byte{0: 0xfd, 3: net, 15: byte(1 + r.IntN(5))}
		return netip.AddrPortFrom(netip.AddrFrom16(a), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, net, 0, byte(1 + r.IntN(5))}), port)
}
