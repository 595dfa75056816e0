// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// FuzzDiff goes from one random state to another.
func FuzzDiff(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, seed*7, uint32(seed))
	}
	f.Fuzz(func(t *testing.T, from, to uint64, spread uint32) {
		a, b := random(from), random(to)
		k := holding(t, a)
		k.Watch = func(now proxier.State) { invariants(t, a, b, now) }
		plan := proxier.Diff(a, b, proxier.Everything(a, b), spread)
		if err := k.Apply(t.Context(), plan); err != nil {
			t.Fatalf("%v\n%s", err, &plan)
		}
		mirror := a.Clone()
		if err := mirror.Apply(plan); err != nil {
			t.Fatal(err)
		}
		if mirror.String() != k.String() {
			t.Fatalf("remembered\n%s\nthe kernel holds\n%s", mirror, k)
		}
		arrived(t, k, b)
	})
}

// TestDiffIsQuietWhenDone is about TCP real servers that drain: they are
// neither wanted nor to be touched again.
func TestDiffIsQuietWhenDone(t *testing.T) {
	for seed := range uint64(300) {
		a, b := random(seed), random(seed+1000)
		k := holding(t, a)
		apply(t, k, a, b)
		have := k.State()
		if again := proxier.Diff(have, b, proxier.Everything(have, b), 1); again.Len() > 0 {
			t.Fatalf("seed %d: the second diff is not empty:\n%s", seed, &again)
		}
	}
}

// TestCutAnywhere stops after every possible number of changes and begins
// again with what the kernel holds.
func TestCutAnywhere(t *testing.T) {
	for seed := range uint64(25) {
		a, b := random(seed), random(seed+500)
		plan := proxier.Diff(a, b, proxier.Everything(a, b), 0)
		for cut := 1; cut <= plan.Len(); cut++ {
			k := holding(t, a)
			k.CutAfter(cut)
			k.Watch = func(now proxier.State) { invariants(t, a, b, now) }
			if err := k.Apply(t.Context(), plan); err != nil && !errors.Is(err, proxiertest.ErrCut) {
				t.Fatal(err)
			}
			k.CutAfter(0)
			apply(t, k, k.State(), b)
			arrived(t, k, b)
		}
	}
}

func TestDiffLeavesForeignServersAlone(t *testing.T) {
	foreign := proxier.Frontend{Addr: netip.MustParseAddrPort("198.51.100.7:80"), Proto: proxier.TCP}
	for seed := range uint64(50) {
		a, b := random(seed), random(seed+50)
		a.Servers[foreign] = proxier.Server{Options: proxier.Options{Scheduler: "wlc"}}
		k := holding(t, a)
		apply(t, k, a, b)
		if _, ok := k.State().Servers[foreign]; !ok {
			t.Fatalf("seed %d: the foreign server is gone", seed)
		}
	}
}

func TestServersInOurPrefixesAreOursWithoutTheTable(t *testing.T) {
	have := proxier.NewState()
	inside := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.1:443"), Proto: proxier.TCP}
	outside := proxier.Frontend{Addr: netip.MustParseAddrPort("192.0.2.1:30000"), Proto: proxier.TCP}
	have.Servers[inside], have.Servers[outside] = proxier.Server{}, proxier.Server{}
	have.Routes[netip.MustParsePrefix("10.96.0.0/16")] = netip.MustParseAddr("192.0.2.1")
	plan := proxier.Diff(have, proxier.NewState(), proxier.Everything(have, proxier.NewState()), 0)
	if len(plan.Servers) != 1 || plan.Servers[0].Frontend != inside {
		t.Errorf("plan is\n%swant only %s deleted", &plan, inside)
	}
}

func TestSpreadTurnsTheOrder(t *testing.T) {
	f := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.1:80"), Proto: proxier.TCP}
	want := proxier.NewState()
	want.Servers[f] = proxier.Server{Dests: []proxier.Dest{dest("10.244.0.1:80"), dest("10.244.0.2:80"), dest("10.244.0.3:80")}}
	first := map[netip.AddrPort]bool{}
	for spread := range uint32(3) {
		plan := proxier.Diff(proxier.NewState(), want, proxier.Everything(want, want), spread)
		first[plan.Servers[1].Dest.Addr] = true
	}
	if len(first) != 3 {
		t.Errorf("three spreads begin with %v, want each real server once", first)
	}
}

func TestOldUDPFlowsAreForgottenOnlyWhereTheyCanExist(t *testing.T) {
	clusterIP := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.10:53"), Proto: proxier.UDP}
	nodePort := proxier.Frontend{Addr: netip.MustParseAddrPort("192.0.2.1:30053"), Proto: proxier.UDP}
	want := proxier.NewState()
	want.Routes[netip.MustParsePrefix("10.96.0.0/16")] = netip.MustParseAddr("192.0.2.1")
	for _, f := range []proxier.Frontend{clusterIP, nodePort} {
		want.Servers[f] = proxier.Server{}
		want.Elements[proxier.FrontendElement(proxier.SetFrontends, f)] = struct{}{}
	}
	plan := proxier.Diff(proxier.NewState(), want, proxier.Everything(want, want), 0)
	if len(plan.Forget) != 1 || plan.Forget[0] != (proxier.Flows{Frontend: nodePort}) {
		t.Errorf("forgets %v, want only %s", plan.Forget, nodePort)
	}
}

// invariants hold after every single change on the way from a to b.
func invariants(t *testing.T, a, b, now proxier.State) {
	t.Helper()
	for f, server := range now.Servers {
		if !now.Has(proxier.FrontendElement(proxier.SetOwned, f)) {
			t.Fatalf("%s is in the kernel and nobody knows that it is ours", f)
		}
		inA, inB := serving(a.Servers[f]), serving(b.Servers[f])
		if inA && inB && !serving(server) {
			t.Fatalf("%s has no real server for a moment", f)
		}
	}
	for f := range a.Servers {
		if _, wanted := b.Servers[f]; !wanted {
			continue
		}
		if _, there := now.Servers[f]; !there || !now.Has(proxier.FrontendElement(proxier.SetFrontends, f)) {
			t.Fatalf("%s is not reachable for a moment", f)
		}
	}
	for e := range b.Elements {
		inFrontends := proxier.FrontendElement(proxier.SetFrontends, e.Frontend())
		if e.Set == proxier.SetRestricted && now.Has(inFrontends) && !a.Has(inFrontends) && !now.Has(e) {
			t.Fatalf("%s is reachable before it is restricted", e.Frontend())
		}
	}
	for e := range now.Elements {
		if _, there := now.Servers[e.Frontend()]; e.Set == proxier.SetFrontends && !there {
			t.Fatalf("%s is accepted without a virtual server", e.Frontend())
		}
	}
}

func serving(s proxier.Server) bool {
	for _, d := range s.Dests {
		if d.Weight > 0 {
			return true
		}
	}
	return false
}

func random(seed uint64) proxier.State {
	return proxiertest.Random(rand.New(rand.NewPCG(seed, 1)))
}

// holding is a kernel in memory in state s.
func holding(t *testing.T, s proxier.State) *proxiertest.Kernel {
	t.Helper()
	k := &proxiertest.Kernel{}
	if err := k.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Meddle(func(into proxier.State) {
		for f, server := range s.Servers {
			into.Servers[f] = server
		}
		for e := range s.Elements {
			into.Elements[e] = struct{}{}
		}
		for p, a := range s.Routes {
			into.Routes[p] = a
		}
	})
	return k
}

func apply(t *testing.T, k *proxiertest.Kernel, have, want proxier.State) {
	t.Helper()
	plan := proxier.Diff(have, want, proxier.Everything(have, want), 3)
	if err := k.Apply(context.Background(), plan); err != nil {
		t.Fatalf("%v\n%s", err, &plan)
	}
}

// arrived checks that k holds want, but for real servers that drain.
func arrived(t *testing.T, k *proxiertest.Kernel, want proxier.State) {
	t.Helper()
	k.Watch = nil
	if err := k.Apply(t.Context(), proxiertest.Leftovers(k.State(), want)); err != nil {
		t.Fatal(err)
	}
	if k.String() != want.String() {
		t.Fatalf("the kernel holds\n%s\nwant\n%s", k, want)
	}
}

func dest(text string) proxier.Dest {
	return proxier.Dest{Addr: netip.MustParseAddrPort(text), Weight: 1}
}
