// SPDX-License-Identifier: Apache-2.0

package proxiertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/muster-project/muster/proxier"
)

// NodeAddrs are addresses that the host under test must have: routes name
// them as their source.
func NodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

// Suite is what every [proxier.Kernel] has to do. open returns one that
// nobody used before.
func Suite(t *testing.T, open func(*testing.T) proxier.Kernel) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, proxier.Kernel)
	}{
		{"an untouched kernel is empty", testEmpty},
		{"states come back as they were applied", testStates},
		{"overlapping prefixes replace each other", testPrefixes},
		{"refused changes are named and the others made", testRefused},
		{"a batch larger than a socket buffer", testLarge},
		{"any state to any state", testTransitions},
		{"preparing again changes nothing", testPrepareAgain},
		{"cleaning up leaves what is not ours", testCleanUp},
		{"an empty plan is nothing", testNothing},
		{"no connections", testConnections},
		{"a probe sees what a reader sees", testProbe},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := open(t)
			if err := k.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.run(t, k)
		})
	}
}

func testEmpty(t *testing.T, k proxier.Kernel) { same(t, k, proxier.NewState()) }

func testStates(t *testing.T, k proxier.Kernel) {
	states := []proxier.State{
		state("10.96.0.10:53/udp rr=10.244.0.2:53,10.244.1.2:53", "10.96.0.10:53/tcp rr=10.244.0.2:53"),
		state("10.96.0.10:53/udp rr=10.244.1.2:53", "10.96.0.10:53/tcp mh="),
		state("[2001:db8:1::a]:443/tcp rr=[2001:db8:2::5]:6443", "10.96.0.1:443/tcp rr=192.0.2.1:6443"),
		state("10.96.0.3:9/sctp rr=10.244.0.9:99"),
		proxier.NewState(),
	}
	persistent := states[2].Servers
	for f, s := range persistent {
		s.Flags, s.Timeout = proxier.FlagPersistent, 10800
		persistent[f] = s
	}
	for f, s := range states[1].Servers {
		s.Flags = proxier.FlagSched2
		states[1].Servers[f] = s
	}
	for i, want := range states {
		t.Logf("state %d", i)
		move(t, k, want)
	}
}

func testPrefixes(t *testing.T, k proxier.Kernel) {
	for i, list := range [][]string{
		{"10.96.0.0/16", "0.0.0.0/0", "fd00:96::/112", "::/0"},
		{"10.96.0.0/12"},
		{"10.96.0.0/16", "10.97.0.0/16", "10.98.0.7/32"},
		{"0.0.0.0/1", "128.0.0.0/1"},
		{"255.255.255.0/24", "ff00::/8"},
		{},
	} {
		t.Logf("list %d", i)
		want := proxier.NewState()
		for _, text := range list {
			p := netip.MustParsePrefix(text)
			set := proxier.SetServiceCIDRs
			if p.Bits() == 0 {
				set = proxier.SetPodCIDRs
			}
			want.Elements[proxier.Element{Set: set, Prefix: p}] = struct{}{}
		}
		move(t, k, want)
	}
}

func testRefused(t *testing.T, k proxier.Kernel) {
	have := state("10.96.0.1:80/tcp rr=10.244.0.2:80")
	move(t, k, have)
	here, gone := frontend("10.96.0.1:80/tcp"), frontend("10.96.0.2:80/tcp")
	old, other := dest("10.244.0.2:80"), dest("10.244.0.3:80")
	rr := proxier.Options{Scheduler: "rr"}
	cases := []struct {
		change proxier.ServerChange
		want   error
	}{
		{proxier.ServerChange{Verb: proxier.AddServer, Frontend: here, Options: rr}, syscall.EEXIST},
		{proxier.ServerChange{Verb: proxier.EditServer, Frontend: gone, Options: rr}, syscall.ESRCH},
		{proxier.ServerChange{Verb: proxier.DelServer, Frontend: gone}, syscall.ESRCH},
		{proxier.ServerChange{Verb: proxier.AddDest, Frontend: here, Dest: old}, syscall.EEXIST},
		{proxier.ServerChange{Verb: proxier.EditDest, Frontend: here, Dest: other}, syscall.ENOENT},
		{proxier.ServerChange{Verb: proxier.DelDest, Frontend: here, Dest: other}, syscall.ENOENT},
		{proxier.ServerChange{Verb: proxier.AddDest, Frontend: gone, Dest: other}, syscall.ESRCH},
	}
	var all proxier.Plan
	for _, c := range cases {
		err := k.Apply(t.Context(), proxier.Plan{Servers: []proxier.ServerChange{c.change}})
		var refused *proxier.ChangeError
		if !errors.As(err, &refused) || refused.Change != c.change || !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.change, err, c.want)
		}
		all.Servers = append(all.Servers, c.change)
	}
	same(t, k, have)
	all.Servers = append(all.Servers, proxier.ServerChange{Verb: proxier.AddDest, Frontend: here, Dest: other})
	if err := k.Apply(t.Context(), all); err == nil {
		t.Error("seven refused changes and no error")
	}
	have.Servers[here] = proxier.Server{Options: rr, Dests: []proxier.Dest{old, other}}
	same(t, k, have)
}

func testLarge(t *testing.T, k proxier.Kernel) {
	want := proxier.NewState()
	for i := range 2000 {
		ip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		server := proxier.Server{Options: proxier.Options{Scheduler: "rr"}}
		for j := range 5 {
			server.Dests = append(server.Dests, proxier.Dest{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j), byte(i)}), 8080), Weight: 1})
		}
		serve(want, proxier.Frontend{Addr: netip.AddrPortFrom(ip, 80), Proto: proxier.TCP}, server)
	}
	move(t, k, want)
	move(t, k, proxier.NewState())
}

func testTransitions(t *testing.T, k proxier.Kernel) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		move(t, k, Random(r))
	}
	move(t, k, proxier.NewState())
}

func testPrepareAgain(t *testing.T, k proxier.Kernel) {
	want := state("10.96.0.1:443/tcp rr=192.0.2.1:6443")
	want.Routes[netip.MustParsePrefix("10.96.0.0/16")] = NodeAddrs()[0]
	want.Elements[proxier.Element{Set: proxier.SetServiceCIDRs, Prefix: netip.MustParsePrefix("10.96.0.0/16")}] = struct{}{}
	move(t, k, want)
	if err := k.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, k, want)
}

func testCleanUp(t *testing.T, k proxier.Kernel) {
	foreign := state("198.51.100.7:80/tcp rr=198.51.100.8:80")
	clear(foreign.Elements)
	for f, s := range foreign.Servers {
		apply(t, k, proxier.Plan{Servers: []proxier.ServerChange{
			{Verb: proxier.AddServer, Frontend: f, Options: s.Options},
			{Verb: proxier.AddDest, Frontend: f, Dest: s.Dests[0]},
		}})
	}
	want := state("10.96.0.1:443/tcp rr=192.0.2.1:6443", "192.0.2.1:30080/tcp rr=10.244.0.2:80")
	want.Routes[netip.MustParsePrefix("10.96.0.0/16")] = NodeAddrs()[0]
	want.Routes[netip.MustParsePrefix("fd00:96::/112")] = NodeAddrs()[1]
	for f, s := range foreign.Servers {
		want.Servers[f] = s
	}
	move(t, k, want)
	for range 2 {
		if err := proxier.CleanUp(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		same(t, k, foreign)
	}
}

func testNothing(t *testing.T, k proxier.Kernel) {
	apply(t, k, proxier.Plan{})
	same(t, k, proxier.NewState())
}

func testConnections(t *testing.T, k proxier.Kernel) {
	move(t, k, state("10.96.0.1:443/tcp rr=192.0.2.1:6443"))
	gone := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.99:443"), Proto: proxier.TCP}
	of := []proxier.Frontend{{Addr: netip.MustParseAddrPort("10.96.0.1:443"), Proto: proxier.TCP}, gone}
	for _, of := range [][]proxier.Frontend{nil, of, slices.Repeat(of, 1000)} {
		conns, err := k.Connections(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		for r, n := range conns {
			if n != 0 {
				t.Errorf("%v has %d connections", r, n)
			}
		}
	}
}

// move brings the kernel to want by way of Diff and checks that a second
// Diff finds nothing to do. TCP real servers that drain are removed.
func move(t *testing.T, k proxier.Kernel, want proxier.State) {
	t.Helper()
	for range 2 {
		have := read(t, k)
		apply(t, k, proxier.Diff(have, want, proxier.Everything(have, want), rand.Uint32()))
		apply(t, k, Leftovers(read(t, k), want))
	}
	same(t, k, want)
	have := read(t, k)
	if again := proxier.Diff(have, want, proxier.Everything(have, want), 0); again.Len() > 0 {
		t.Fatalf("a second diff is not empty:\n%s", &again)
	}
}

// Leftovers plans the removal of real servers of weight 0 that are not
// wanted, as the end of a drain would.
func Leftovers(have, want proxier.State) proxier.Plan {
	var p proxier.Plan
	for f, server := range have.Servers {
		used := map[netip.AddrPort]bool{}
		for _, d := range want.Servers[f].Dests {
			used[d.Addr] = true
		}
		for _, d := range server.Dests {
			if d.Weight == 0 && !used[d.Addr] {
				p.Servers = append(p.Servers, proxier.ServerChange{Verb: proxier.DelDest, Frontend: f, Dest: d})
			}
		}
	}
	return p
}

func apply(t *testing.T, k proxier.Kernel, p proxier.Plan) {
	t.Helper()
	if err := k.Apply(context.WithoutCancel(t.Context()), p); err != nil {
		t.Fatalf("apply:\n%s%v", short(p.String()), err)
	}
}

func read(t *testing.T, k proxier.Kernel) proxier.State {
	t.Helper()
	s, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(t *testing.T, k proxier.Kernel, want proxier.State) {
	t.Helper()
	if got, want := read(t, k).String(), want.String(); got != want {
		t.Fatalf("the kernel holds\n%s\nwant\n%s", short(got), short(want))
	}
}

func short(s string) string {
	if len(s) > 3000 {
		return fmt.Sprintf("%s\n... (%d bytes)", s[:3000], len(s))
	}
	return s
}

func testProbe(t *testing.T, k proxier.Kernel) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 5 {
		move(t, k, Random(r))
		there := read(t, k)
		ask := []proxier.Frontend{frontend("10.99.99.99:9/tcp"), frontend("[2001:db8:99::9]:9/udp")}
		count := 0
		for f := range there.Servers {
			ask = append(ask, f)
			if f.Addr.Addr().Is4() {
				count++
			}
		}
		got, err := k.Probe(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if got.Count != count {
			t.Errorf("%d IPv4 virtual servers, want %d", got.Count, count)
		}
		if have, want := (proxier.State{Servers: got.Servers}).String(), (proxier.State{Servers: there.Servers}).String(); have != want {
			t.Errorf("probed\n%s\nread\n%s", have, want)
		}
	}
}
