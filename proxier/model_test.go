// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

var (
	nodeAddr  = netip.MustParseAddr("192.0.2.1")
	otherAddr = netip.MustParseAddr("203.0.113.5")
	cidr      = netip.MustParsePrefix("10.96.0.0/16")
)

// ready is a Model with a node and a service CIDR.
func ready(c proxier.Config) *proxier.Model {
	c.Node = "here"
	m := proxier.NewModel(c)
	m.SetNode(proxier.Node{Zone: "a", Addrs: []netip.Addr{nodeAddr}})
	m.SetServiceCIDR("kubernetes", []netip.Prefix{cidr})
	return m
}

// web is a Service with one TCP port.
func web(ip string) proxier.Service {
	return proxier.Service{
		Name:       proxier.Name{Namespace: "default", Name: "web"},
		ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)},
		Ports:      []proxier.Port{{Name: "http", Proto: proxier.TCP, Port: 80, NodePort: 30080}},
	}
}

func slice(name string, endpoints ...proxier.Endpoint) proxier.Slice {
	return proxier.Slice{
		Name:      proxier.Name{Namespace: "default", Name: name},
		Service:   proxier.Name{Namespace: "default", Name: "web"},
		Ports:     []proxier.SlicePort{{Name: "http", Proto: proxier.TCP, Port: 8080}},
		Endpoints: endpoints,
	}
}

func endpoint(ip, node string) proxier.Endpoint {
	return proxier.Endpoint{Addr: netip.MustParseAddr(ip), Node: node, Ready: true, Serving: true}
}

const base = `route 10.96.0.0/16 src 192.0.2.1
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set service-cidrs 10.96.0.0/16`

func TestModel(t *testing.T) {
	local, remote := endpoint("10.244.0.2", "here"), endpoint("10.244.1.2", "there")
	owned := `set frontends 10.96.0.7:80/tcp
set frontends 192.0.2.1:30080/tcp
`
	for _, c := range []struct {
		name string
		make func(*proxier.Model)
		want string
	}{
		{"no Service", func(*proxier.Model) {}, base},
		{"a Service without endpoints", func(m *proxier.Model) { m.SetService(web("10.96.0.7")) }, `route 10.96.0.0/16 src 192.0.2.1
` + owned + `set masquerade 192.0.2.1:30080/tcp
set owned 10.96.0.7:80/tcp
set owned 192.0.2.1:30080/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set refused 10.96.0.7:80/tcp
set refused 192.0.2.1:30080/tcp
set service-cidrs 10.96.0.0/16
server 10.96.0.7:80/tcp rr
server 192.0.2.1:30080/tcp rr`},
		{"endpoints before their Service", func(m *proxier.Model) {
			m.SetSlice(slice("web-1", local, remote))
			m.SetService(web("10.96.0.7"))
		}, `route 10.96.0.0/16 src 192.0.2.1
` + owned + `set hairpin 10.244.0.2/32
set masquerade 192.0.2.1:30080/tcp
set owned 10.96.0.7:80/tcp
set owned 192.0.2.1:30080/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set service-cidrs 10.96.0.0/16
server 10.96.0.7:80/tcp rr 10.244.0.2:8080=1 10.244.1.2:8080=1
server 192.0.2.1:30080/tcp rr 10.244.0.2:8080=1 10.244.1.2:8080=1`},
		{"both policies Local, the endpoint elsewhere", func(m *proxier.Model) {
			s := web("10.96.0.7")
			s.InternalLocal, s.ExternalLocal = true, true
			m.SetService(s)
			m.SetSlice(slice("web-1", remote))
		}, `route 10.96.0.0/16 src 192.0.2.1
set drop 10.96.0.7:80/tcp
set drop 192.0.2.1:30080/tcp
` + owned + `set owned 10.96.0.7:65535/tcp
set owned 10.96.0.7:80/tcp
set owned 192.0.2.1:30080/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set service-cidrs 10.96.0.0/16
set split 192.0.2.1:30080/tcp to 10.96.0.7:65535
set targets 10.96.0.7:65535/tcp
server 10.96.0.7:80/tcp rr
server 10.96.0.7:65535/tcp rr 10.244.1.2:8080=1
server 192.0.2.1:30080/tcp rr`},
		{"external policy Local: clients inside are led to the ClusterIP", func(m *proxier.Model) {
			s := web("10.96.0.7")
			s.ExternalLocal, s.BalancerIPs = true, []netip.Addr{netip.MustParseAddr("198.51.100.1")}
			m.SetService(s)
			m.SetSlice(slice("web-1", local, remote))
		}, `route 10.96.0.0/16 src 192.0.2.1
set capture 198.51.100.1:80/tcp
set frontends 10.96.0.7:80/tcp
set frontends 192.0.2.1:30080/tcp
set frontends 198.51.100.1:80/tcp
set hairpin 10.244.0.2/32
set owned 10.96.0.7:80/tcp
set owned 192.0.2.1:30080/tcp
set owned 198.51.100.1:80/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set service-cidrs 10.96.0.0/16
set split 192.0.2.1:30080/tcp to 10.96.0.7:80
set split 198.51.100.1:80/tcp to 10.96.0.7:80
set targets 10.96.0.7:80/tcp
server 10.96.0.7:80/tcp rr 10.244.0.2:8080=1 10.244.1.2:8080=1
server 192.0.2.1:30080/tcp rr 10.244.0.2:8080=1
server 198.51.100.1:80/tcp rr 10.244.0.2:8080=1`},
		{"ranges hold for the load balancer's address, whatever else it is", func(m *proxier.Model) {
			s := web("10.96.0.7")
			s.Ports[0].NodePort = 0
			s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
			s.BalancerIPs = s.ExternalIPs[:1]
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}
			m.SetService(s)
		}, `route 10.96.0.0/16 src 192.0.2.1
set allowed 198.51.100.1:80/tcp from 203.0.113.0/24
set capture 198.51.100.1:80/tcp
set capture 198.51.100.2:80/tcp
set frontends 10.96.0.7:80/tcp
set frontends 198.51.100.1:80/tcp
set frontends 198.51.100.2:80/tcp
set masquerade 198.51.100.1:80/tcp
set masquerade 198.51.100.2:80/tcp
set owned 10.96.0.7:80/tcp
set owned 198.51.100.1:80/tcp
set owned 198.51.100.2:80/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set refused 10.96.0.7:80/tcp
set refused 198.51.100.1:80/tcp
set refused 198.51.100.2:80/tcp
set restricted 198.51.100.1:80/tcp
set service-cidrs 10.96.0.0/16
server 10.96.0.7:80/tcp rr
server 198.51.100.1:80/tcp rr
server 198.51.100.2:80/tcp rr`},
		{"tuned", func(m *proxier.Model) {
			s := web("10.96.0.7")
			s.Ports[0].NodePort = 0
			s.Tuning = proxier.Tuning{Scheduler: "wrr", HasFlags: true, Flags: proxier.FlagSched1, Weights: []proxier.WeightRule{{Local: true, Weight: 4}, {Weight: 2}}}
			m.SetService(s)
			m.SetSlice(slice("web-1", local, remote))
		}, `route 10.96.0.0/16 src 192.0.2.1
set frontends 10.96.0.7:80/tcp
set hairpin 10.244.0.2/32
set owned 10.96.0.7:80/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set service-cidrs 10.96.0.0/16
server 10.96.0.7:80/tcp wrr flags 0x8 timeout 0s 10.244.0.2:8080=4 10.244.1.2:8080=2`},
		{"both policies Local and no endpoint anywhere: refused, not dropped", func(m *proxier.Model) {
			s := web("10.96.0.7")
			s.InternalLocal, s.ExternalLocal, s.Ports[0].NodePort = true, true, 0
			m.SetService(s)
		}, `route 10.96.0.0/16 src 192.0.2.1
set frontends 10.96.0.7:80/tcp
set owned 10.96.0.7:80/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set refused 10.96.0.7:80/tcp
set service-cidrs 10.96.0.0/16
server 10.96.0.7:80/tcp rr`},
		{"affinity, and an address outside every CIDR", func(m *proxier.Model) {
			s := web("10.200.0.7")
			s.Affinity, s.Ports[0].NodePort = 3*time.Hour, 0
			m.SetService(s)
		}, `route 10.200.0.7/32 src 192.0.2.1
route 10.96.0.0/16 src 192.0.2.1
set frontends 10.200.0.7:80/tcp
set owned 10.200.0.7:80/tcp
set pod-cidrs 0.0.0.0/0
set pod-cidrs ::/0
set refused 10.200.0.7:80/tcp
set service-cidrs 10.200.0.7/32
set service-cidrs 10.96.0.0/16
server 10.200.0.7:80/tcp rr flags 0x1 timeout 10800s`},
		{"everything gone again", func(m *proxier.Model) {
			m.SetService(web("10.200.0.7"))
			m.SetSlice(slice("web-1", local))
			m.Update()
			m.DeleteService(proxier.Name{Namespace: "default", Name: "web"})
			m.DeleteSlice(proxier.Name{Namespace: "default", Name: "web-1"})
		}, base},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ready(proxier.Config{})
			c.make(m)
			m.Update()
			if got := m.Want().String(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestNodePortAddresses(t *testing.T) {
	m := ready(proxier.Config{NodePorts: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	m.SetService(web("10.96.0.7"))
	m.SetLocalAddresses([]netip.Addr{otherAddr, nodeAddr})
	m.Update()
	at := func(a netip.Addr) proxier.Frontend {
		return proxier.Frontend{Addr: netip.AddrPortFrom(a, 30080), Proto: proxier.TCP}
	}
	if _, ok := m.Want().Servers[at(otherAddr)]; !ok {
		t.Error("no NodePort on the address that the configuration names")
	}
	if _, ok := m.Want().Servers[at(nodeAddr)]; ok {
		t.Error("a NodePort on an address that the configuration does not name")
	}
	m.SetLocalAddresses([]netip.Addr{nodeAddr})
	m.Update()
	if _, ok := m.Want().Servers[at(otherAddr)]; ok {
		t.Error("a NodePort on an address that the host lost")
	}
}

// An address may be given to a new Service before the deletion of its old
// owner is seen.
func TestTheOlderServiceKeepsAFrontend(t *testing.T) {
	f := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: proxier.TCP}
	old, young := web("10.96.0.7"), web("10.96.0.7")
	old.Created, young.Created = time.Unix(1, 0), time.Unix(2, 0)
	young.Name.Name, young.Affinity = "young", time.Minute
	for _, order := range [][]proxier.Service{{old, young}, {young, old}} {
		m := ready(proxier.Config{})
		for _, s := range order {
			m.SetService(s)
			m.Update()
		}
		if m.Want().Servers[f].Timeout != 0 {
			t.Errorf("%s first: the younger Service has the frontend", order[0].Name)
		}
		m.DeleteService(old.Name)
		m.Update()
		if m.Want().Servers[f].Timeout != 60 {
			t.Errorf("%s first: the younger Service does not inherit the frontend", order[0].Name)
		}
	}
}

func TestServiceCIDRsMayOverlapAndGrow(t *testing.T) {
	m := ready(proxier.Config{})
	m.SetService(web("10.97.0.7"))
	m.Update()
	m.SetServiceCIDR("wider", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
	m.Update()
	if got := len(m.Want().Routes); got != 1 {
		t.Errorf("%d routes, want the widest alone:\n%s", got, m.Want())
	}
	m.SetServiceCIDR("wider", nil)
	m.Update()
	if _, ok := m.Want().Routes[netip.MustParsePrefix("10.97.0.7/32")]; !ok || len(m.Want().Routes) != 2 {
		t.Errorf("the address outside has no route of its own any more:\n%s", m.Want())
	}
}

func TestTheNodesAddressMoves(t *testing.T) {
	m := ready(proxier.Config{})
	m.SetService(web("10.96.0.7"))
	m.Update()
	m.SetNode(proxier.Node{Addrs: []netip.Addr{otherAddr}})
	m.SetNode(proxier.Node{}) // a Node that is registered anew has no address at first
	m.Update()
	if got := m.Want().Routes[cidr]; got != otherAddr {
		t.Errorf("source of the route is %s, want %s", got, otherAddr)
	}
	if _, ok := m.Want().Servers[proxier.Frontend{Addr: netip.AddrPortFrom(nodeAddr, 30080), Proto: proxier.TCP}]; ok {
		t.Error("the NodePort is still on the old address")
	}
}

// FuzzModel sends the same objects in random order, with detours, to a Model
// that updates now and then, and compares it with one that sees only the end.
// The touched parts alone have to carry a copy along.
func FuzzModel(f *testing.F) {
	for seed := range uint64(150) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := newWorld()
		config := proxier.Config{Node: "node-1", DetectLocal: proxier.DetectLocal{NodeCIDRs: true}}
		m := proxier.NewModel(config)
		copied := proxier.NewState()
		w.tell(m)
		for range 120 {
			w.step(r)
			w.tell(m)
			if r.IntN(3) == 0 {
				carry(t, copied, m)
			}
		}
		carry(t, copied, m)
		fresh := proxier.NewModel(config)
		w.tellAll(fresh)
		fresh.Update()
		if m.Want().String() != fresh.Want().String() {
			t.Fatalf("step by step\n%s\nat once\n%s", m.Want(), fresh.Want())
		}
		if copied.String() != m.Want().String() {
			t.Fatalf("carried along by what was touched\n%s\nwant\n%s", copied, m.Want())
		}
	})
}

// carry applies the difference in the touched parts to a State, drained real
// servers removed.
func carry(t *testing.T, have proxier.State, m *proxier.Model) {
	t.Helper()
	touched := m.Update()
	plan := proxier.Diff(have, m.Want(), touched, 0)
	if err := have.Apply(plan); err != nil {
		t.Fatal(err)
	}
	for f := range touched.Frontends {
		if s, ok := m.Want().Servers[f]; ok {
			have.Servers[f] = s
		}
	}
}

// world is a small cluster in which anything may happen.
type world struct {
	services map[proxier.Name]proxier.Service
	slices   map[proxier.Name]proxier.Slice
	cidrs    map[string][]netip.Prefix
	node     proxier.Node
	last     func(*proxier.Model)
}

func newWorld() *world {
	return &world{
		services: map[proxier.Name]proxier.Service{},
		slices:   map[proxier.Name]proxier.Slice{},
		cidrs:    map[string][]netip.Prefix{},
		node:     proxier.Node{Addrs: []netip.Addr{nodeAddr}},
		last:     func(m *proxier.Model) { m.SetNode(proxier.Node{Addrs: []netip.Addr{nodeAddr}}) },
	}
}

func (w *world) tell(m *proxier.Model) { w.last(m) }

func (w *world) tellAll(m *proxier.Model) {
	m.SetNode(w.node)
	for name, p := range w.cidrs {
		m.SetServiceCIDR(name, p)
	}
	for _, s := range w.slices {
		m.SetSlice(s)
	}
	for _, s := range w.services {
		m.SetService(s)
	}
}

func (w *world) step(r *rand.Rand) {
	switch kind := r.IntN(20); {
	case kind < 6:
		s := randomService(r)
		w.services[s.Name] = s
		w.last = func(m *proxier.Model) { m.SetService(s) }
	case kind < 8:
		name := serviceName(r)
		delete(w.services, name)
		w.last = func(m *proxier.Model) { m.DeleteService(name) }
	case kind < 15:
		s := randomSlice(r)
		w.slices[s.Name] = s
		w.last = func(m *proxier.Model) { m.SetSlice(s) }
	case kind < 17:
		name := sliceName(r)
		delete(w.slices, name)
		w.last = func(m *proxier.Model) { m.DeleteSlice(name) }
	case kind < 19:
		w.stepCIDR(r)
	default:
		w.node = proxier.Node{PodCIDRs: [][]netip.Prefix{nil, {netip.MustParsePrefix("10.244.1.0/24")}}[r.IntN(2)], Zone: []string{"", "a", "b"}[r.IntN(3)], Addrs: [][]netip.Addr{{nodeAddr}, {otherAddr}, {nodeAddr, netip.MustParseAddr("2001:db8::1")}}[r.IntN(3)]}
		node := w.node
		w.last = func(m *proxier.Model) { m.SetNode(node) }
	}
}

func (w *world) stepCIDR(r *rand.Rand) {
	object := fmt.Sprint("cidr-", r.IntN(2))
	list := [][]netip.Prefix{nil, {cidr}, {netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/112")}}[r.IntN(3)]
	if list == nil {
		delete(w.cidrs, object)
	} else {
		w.cidrs[object] = list
	}
	w.last = func(m *proxier.Model) { m.SetServiceCIDR(object, list) }
}

func serviceName(r *rand.Rand) proxier.Name {
	return proxier.Name{Namespace: "default", Name: fmt.Sprint("service-", r.IntN(4))}
}

func sliceName(r *rand.Rand) proxier.Name {
	return proxier.Name{Namespace: "default", Name: fmt.Sprint("slice-", r.IntN(6))}
}

func randomService(r *rand.Rand) proxier.Service {
	s := proxier.Service{
		Name:          serviceName(r),
		Created:       time.Unix(int64(r.IntN(2)), 0),
		ClusterIPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, byte(96 + r.IntN(2)), 0, byte(r.IntN(3))})},
		InternalLocal: r.IntN(4) == 0,
		ExternalLocal: r.IntN(4) == 0,
	}
	if r.IntN(3) == 0 {
		s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(fmt.Sprintf("fd00:96::%x", r.IntN(3))))
	}
	if r.IntN(4) == 0 {
		s.Affinity = time.Hour
	}
	randomExternal(r, &s)
	for i := range 1 + r.IntN(3) {
		p := proxier.Port{Name: fmt.Sprint("port-", i), Proto: []proxier.Protocol{proxier.TCP, proxier.UDP}[i%2], Port: uint16(80 + i)}
		if r.IntN(2) == 0 {
			p.NodePort = uint16(30000 + r.IntN(3))
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

// randomExternal gives Services few addresses, so that they meet.
func randomExternal(r *rand.Rand, s *proxier.Service) {
	for _, list := range []*[]netip.Addr{&s.ExternalIPs, &s.BalancerIPs} {
		for range r.IntN(3) {
			*list = append(*list, netip.AddrFrom4([4]byte{198, 51, 100, byte(r.IntN(3))}))
		}
	}
	for range r.IntN(3) {
		s.SourceRanges = append(s.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, byte(r.IntN(2)), 0, 0}), 16))
	}
	slices.SortFunc(s.SourceRanges, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	s.SourceRanges = slices.Compact(s.SourceRanges)
	if r.IntN(3) == 0 {
		s.HealthPort = uint16(32000 + r.IntN(3))
		s.Tuning.Weights = []proxier.WeightRule{{Node: "node-1", Weight: uint32(r.IntN(3))}}
	}
}

func randomSlice(r *rand.Rand) proxier.Slice {
	s := proxier.Slice{Name: sliceName(r), Service: serviceName(r)}
	for i := range 1 + r.IntN(3) {
		s.Ports = append(s.Ports, proxier.SlicePort{Name: fmt.Sprint("port-", i), Proto: []proxier.Protocol{proxier.TCP, proxier.UDP}[i%2], Port: uint16(8080 + i)})
	}
	for range r.IntN(4) {
		e := endpoint(fmt.Sprintf("10.244.0.%d", r.IntN(6)), fmt.Sprint("node-", r.IntN(3)))
		if r.IntN(5) == 0 {
			e.Addr = netip.MustParseAddr(fmt.Sprintf("fd00:244::%x", r.IntN(6)))
		}
		e.Ready = r.IntN(3) > 0
		e.Terminating = !e.Ready && r.IntN(2) == 0
		if r.IntN(2) == 0 {
			e.ForZones = []string{[]string{"a", "b"}[r.IntN(2)]}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}
