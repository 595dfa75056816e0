// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

// TestKilledAfterAnyOperation takes a minute on a machine that does nothing
// else. killSize is how many Services it adds, how many it removes, and how
// many get other endpoints; killPositions is after how many of the operations
// that this takes the proxier is killed, and "all" is after every one.
const (
	killSize      = "MUSTER_TEST_SERVICES"
	killPositions = "MUSTER_TEST_POSITIONS"
)

// setting is a number from the environment, or "all".
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	switch text {
	case "":
		return otherwise
	case "all":
		return 1 << 30
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: not a number above 0, nor all", name, text)
	}
	return n
}

// served is a Service with its endpoints.
type served struct {
	proxier.Service
	slice proxier.Slice
}

func newServed(name string, addr netip.Addr, nodePort uint16, endpoints ...proxier.Endpoint) served {
	n := proxier.Name{Namespace: "default", Name: name}
	return served{
		Service: proxier.Service{Name: n, ClusterIPs: []netip.Addr{addr},
			Ports: []proxier.Port{{Name: "t", Proto: proxier.TCP, Port: 80, NodePort: nodePort}}},
		slice: proxier.Slice{Name: n, Service: n, Endpoints: endpoints,
			Ports: []proxier.SlicePort{{Name: "t", Proto: proxier.TCP, Port: 8080}}},
	}
}

// services are what one generation of the cluster has: some that are the same
// in each, some that go from pod to pod, some that only this one has, and some
// whose endpoints only this one has.
func services(generation int) []served {
	list := append(steady(), moving(generation)...)
	size, err := strconv.Atoi(os.Getenv(killSize))
	if err != nil {
		size = 300
	}
	for i := range size {
		low := []byte{byte(i >> 8), byte(i)}
		own := netip.AddrFrom4([4]byte{10, 96, byte(16*(1+generation%2)) + low[0], low[1]})
		kept := netip.AddrFrom4([4]byte{10, 96, 128 + low[0], low[1]})
		list = append(list,
			newServed(fmt.Sprintf("own-%d-%d", generation%2, i), own, 0, podA, podRemote),
			newServed(fmt.Sprintf("kept-%d", i), kept, nodePort(i),
				pod(netip.AddrFrom4([4]byte{10, 244, byte(2 + generation%2), low[1]}).String(), "elsewhere"),
				pod(netip.AddrFrom4([4]byte{10, 244, byte(4 + generation%2), low[1]}).String(), "elsewhere")))
		externals(&list[len(list)-2].Service, i)
	}
	return list
}

// nodePort gives every tenth Service one.
func nodePort(i int) uint16 {
	if i%10 > 0 {
		return 0
	}
	return uint16(31000 + i)
}

// externals gives every tenth Service external addresses, a restricted one
// and one for everybody.
func externals(s *proxier.Service, i int) {
	if i%10 != 5 {
		return
	}
	s.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 1 + byte(i>>8), byte(i)})}
	s.BalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 65 + byte(i>>8), byte(i)})}
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	s.ExternalLocal = i%20 == 5
}

// steady are the Services that never change.
func steady() []served {
	var list []served
	for i := range 4 {
		addr := netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + i)})
		list = append(list, newServed(fmt.Sprint("steady-", i), addr, uint16(30080+i), podA, podB, podRemote))
	}
	list[1].Affinity = time.Hour
	list[2].ExternalLocal = true
	list[2].BalancerIPs = []netip.Addr{netip.MustParseAddr("198.18.0.2")}
	list[2].SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("10.244.0.0/16")}
	list[3].ExternalIPs = []netip.Addr{netip.MustParseAddr("198.18.0.3")}
	return list
}

// moving are Services with one endpoint, another in each generation. Both
// answer at any time, so these Services must too.
func moving(generation int) []served {
	endpoint := []proxier.Endpoint{podA, podB}[generation%2]
	return []served{
		newServed("moving-0", netip.MustParseAddr("10.96.0.20"), 30090, endpoint),
		newServed("moving-1", netip.MustParseAddr("10.96.0.21"), 0, endpoint),
	}
}

// everyWay is how clients reach the Services that must always answer.
func (c *cluster) everyWay() []route {
	var list []route
	for _, s := range append(steady(), moving(0)...) {
		byClusterIP := netip.AddrPortFrom(s.ClusterIPs[0], s.Ports[0].Port).String()
		list = append(list, route{c.client, byClusterIP}, route{c.node, byClusterIP})
		if port := s.Ports[0].NodePort; port != 0 {
			byNodePort := netip.AddrPortFrom(nodeIP, port).String()
			list = append(list, route{c.client, byNodePort}, route{c.outside, byNodePort})
		}
		for _, a := range append(s.BalancerIPs, s.ExternalIPs...) {
			external := netip.AddrPortFrom(a, s.Ports[0].Port).String()
			list = append(list, route{c.client, external}, route{c.outside, external})
		}
	}
	return list
}

func faultConfig() proxier.Config {
	return proxier.Config{Node: "node", DetectLocal: proxier.DetectLocal{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}}
}

func serviceCIDRs() []netip.Prefix {
	return []netip.Prefix{clusterIP, netip.MustParsePrefix("fd00:96::/112")}
}

// foreignServer is another program's. It stays as it is.
func foreignServer(t *testing.T, k *Kernel) (proxier.Frontend, proxier.Server) {
	t.Helper()
	f := proxier.Frontend{Addr: netip.MustParseAddrPort("198.51.100.1:8443"), Proto: proxier.TCP}
	s := proxier.Server{Options: proxier.Options{Scheduler: "wlc"},
		Dests: []proxier.Dest{{Addr: netip.MustParseAddrPort("203.0.113.77:8443"), Weight: 7}}}
	must(t, k.ipvs.apply([]proxier.ServerChange{
		{Verb: proxier.AddServer, Frontend: f, Options: s.Options},
		{Verb: proxier.AddDest, Frontend: f, Dest: s.Dests[0]},
	}))
	return f, s
}

// TestKilledAfterAnyOperation kills the proxier again and again in the middle
// of a large change. Whoever uses a Service that the change is not about must
// not notice, nor who uses one whose endpoint is replaced by another; and the
// next proxier must end where the first one would have.
func TestKilledAfterAnyOperation(t *testing.T) {
	c := newCluster(t)
	c.endpoints() // the first pass is done
	c.stop()
	k, err := Open(Options{StateDir: t.TempDir()})
	must(t, err)
	defer k.Close()
	foreign, server := foreignServer(t, k)
	var want [2]string
	for g := range want {
		state := wanted(g)
		state.Servers[foreign] = server
		want[g] = state.String()
	}
	reached := func(what string, generation int) {
		t.Helper()
		if got, err := k.Read(t.Context()); err != nil || got.String() != want[generation%2] {
			t.Fatalf("%s: %v\n%s", what, err, differences(got.String(), want[generation%2]))
		}
	}
	runVictim(t, 0, 0)
	reached("the beginning", 0)

	l := connectAll(t, c.everyWay())
	did, _ := runVictim(t, 1, 0)
	reached("the whole change", 1)
	l.check(t, "nobody killed")
	at := positions(did, setting(t, killPositions, 30))
	begin := time.Now()
	for i, last := range at {
		generation := 2 + i
		if _, killed := runVictim(t, generation, last); !killed {
			t.Logf("operation %d was not reached", last)
		}
		l.check(t, fmt.Sprintf("killed after operation %d", last))
		runVictim(t, generation, 0)
		reached(fmt.Sprintf("killed after operation %d, then not", last), generation)
		l.check(t, fmt.Sprintf("adopted after operation %d", last))
	}
	l.stop()
	l.check(t, "the end")
	if l.made.Load() < int64(len(at)) {
		t.Errorf("only %d connections in %d rounds", l.made.Load(), len(at))
	}
	t.Logf("%d operations, killed after %d of them; %d connections, %.0f a second",
		did.Total, len(at), l.made.Load(), float64(l.made.Load())/time.Since(begin).Seconds())
}

// wanted is what a generation should end in.
func wanted(generation int) proxier.State {
	m := proxier.NewModel(faultConfig())
	m.SetNode(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}})
	m.SetServiceCIDR("kubernetes", serviceCIDRs())
	for _, s := range services(generation) {
		m.SetService(s.Service)
		m.SetSlice(s.slice)
	}
	m.Update()
	return m.Want().Clone()
}

// positions picks about n of a change's operations: the first, the last, and
// those around the borders of phases in any case.
func positions(did operations, n int) []int {
	set := map[int]bool{}
	for _, border := range append(did.Phases, 0, did.Total) {
		for at := border - 1; at <= border+2; at++ {
			set[at] = true
		}
	}
	step := max(1, did.Total/max(1, n-len(set)))
	for at := 1; at <= did.Total; at += step {
		set[at] = true
	}
	var list []int
	for at := range set {
		if at >= 1 && at <= did.Total {
			list = append(list, at)
		}
	}
	slices.Sort(list)
	return list
}

// differences are the lines that only one of two states has.
func differences(got, want string) string {
	in := map[string]int{}
	for line := range strings.Lines(got + "\n") {
		in[strings.TrimSpace(line)]++
	}
	for line := range strings.Lines(want + "\n") {
		in[strings.TrimSpace(line)]--
	}
	var list []string
	for line, n := range in {
		switch {
		case n > 0:
			list = append(list, "too much: "+line)
		case n < 0:
			list = append(list, "missing:  "+line)
		}
	}
	slices.Sort(list)
	return strings.Join(list[:min(len(list), 40)], "\n")
}
