// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy"

	"github.com/muster-project/muster/proxier"
)

const here = "test-node"

// sequences is how many random sequences a plain test run tries.
const sequences = 2000

// FuzzEndpoints lets anything happen to a small cluster. After each event the
// endpoints of every frontend must be those that upstream's CategorizeEndpoints
// names, the health checks as upstream's, and the state the same as one
// computed from scratch.
func FuzzEndpoints(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed)
	}
	f.Fuzz(sequence)
}

func TestRandomSequences(t *testing.T) {
	seeds := uint64(sequences)
	if testing.Short() {
		seeds = 100
	}
	for seed := range seeds {
		if sequence(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func sequence(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	random := Random{Rand: r, Node: here}
	place := Place{
		Config:       proxier.Config{Node: here},
		Node:         proxier.Node{Zone: []string{"", "zone-a", "zone-b"}[r.IntN(3)], Addrs: nodeAddrs()},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
	}
	var cluster Cluster
	m := place.Model()
	v4, v6 := newUpstream(corev1.IPv4Protocol), newUpstream(corev1.IPv6Protocol)
	var checks map[uint16]proxier.HealthCheck
	for range 40 {
		if r.IntN(20) == 0 {
			place.Node.Zone = []string{"", "zone-a", "zone-b"}[r.IntN(3)]
			m.SetNode(place.Node)
		}
		e := random.Event()
		cluster.Tell(e)
		e.Tell(m)
		m.Update()
		if got, want := m.Want().String(), cluster.Want(place).String(); got != want {
			t.Errorf("event by event\n%s\nfrom scratch\n%s", got, want)
			return
		}
		want := want{}
		for _, u := range []*upstream{v4, v6} {
			u.tell(e)
			u.want(place.Node, want)
		}
		if complaint := want.compare(m.Want()); complaint != "" {
			t.Errorf("%s\nin\n%s", complaint, m.Want())
			return
		}
		if now, changed := m.HealthChecks(); changed {
			checks = now
		}
		if want := health(v4, v6); !maps.Equal(checks, want) {
			t.Errorf("health checks %v, upstream %v", checks, want)
			return
		}
	}
}

func nodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("2001:db8::1")}
}

// upstream is kube-proxy up to the point where it writes rules, for one
// address family.
type upstream struct {
	family         corev1.IPFamily
	serviceChanges *proxy.ServiceChangeTracker
	sliceChanges   *proxy.EndpointsChangeTracker
	services       proxy.ServicePortMap
	endpoints      proxy.EndpointsMap
}

func newUpstream(family corev1.IPFamily) *upstream {
	return &upstream{
		family:         family,
		serviceChanges: proxy.NewServiceChangeTracker(family, nil, nil),
		sliceChanges:   proxy.NewEndpointsChangeTracker(family, here, nil, nil),
		services:       proxy.ServicePortMap{},
		endpoints:      proxy.EndpointsMap{},
	}
}

func (u *upstream) tell(e Event) {
	switch {
	case e.Service != nil || e.OldService != nil:
		u.serviceChanges.Update(e.OldService, e.Service)
	case e.Slice != nil:
		u.sliceChanges.EndpointSliceUpdate(e.Slice, false)
	default:
		u.sliceChanges.EndpointSliceUpdate(e.OldSlice, true)
	}
	u.services.Update(u.serviceChanges)
	u.endpoints.Update(u.sliceChanges)
}

// want is what upstream would do with each frontend.
type want map[proxier.Frontend]served

type served struct {
	endpoints []string
	drop      bool     // there are endpoints, and none may be used
	inside    []string // for clients inside the cluster, if they get others
}

func (u *upstream) want(node proxier.Node, w want) {
	for name, port := range u.services {
		labels := map[string]string{corev1.LabelTopologyZone: node.Zone}
		cluster, local, _, some := proxy.CategorizeEndpoints(u.endpoints[name], port, here, labels)
		serve := func(ip netip.Addr, number int, localPolicy, external bool) {
			s := served{endpoints: texts(cluster)}
			if localPolicy {
				s.endpoints = texts(local)
				s.drop = len(local) == 0 && some
				if external {
					s.inside = texts(cluster)
				}
			}
			w[proxier.Frontend{Addr: netip.AddrPortFrom(ip, uint16(number)), Proto: protocol(strings.ToLower(string(port.Protocol())))}] = s
		}
		serve(addrOf(port.ClusterIP()), port.Port(), port.InternalPolicyLocal(), false)
		for _, ip := range slices.Concat(port.ExternalIPs(), port.LoadBalancerVIPs()) {
			serve(addrOf(ip), port.Port(), port.ExternalPolicyLocal(), true)
		}
		for _, ip := range node.Addrs {
			if port.NodePort() != 0 && ip.Is4() == (u.family == corev1.IPv4Protocol) {
				serve(ip, port.NodePort(), port.ExternalPolicyLocal(), true)
			}
		}
	}
}

// health is what load balancers are told. Upstream answers for one family,
// muster for both.
func health(families ...*upstream) map[uint16]proxier.HealthCheck {
	all := map[uint16]proxier.HealthCheck{}
	for _, u := range families {
		local := u.endpoints.LocalReadyEndpoints()
		for name, port := range u.services.HealthCheckNodePorts() {
			all[port] = proxier.HealthCheck{
				Port: port, Service: proxier.Name{Namespace: name.Namespace, Name: name.Name}, Local: all[port].Local + local[name],
			}
		}
	}
	return all
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func texts(endpoints []proxy.Endpoint) []string {
	var list []string
	for _, e := range endpoints {
		list = append(list, e.String())
	}
	slices.Sort(list)
	return list
}

// compare says what is wrong with a state.
func (w want) compare(s proxier.State) string {
	split := map[proxier.Frontend]proxier.Frontend{}
	for e := range s.Elements {
		if e.Set == proxier.SetSplit {
			split[e.Frontend()] = proxier.Frontend{Addr: e.Target(), Proto: e.Proto}
		}
	}
	frontends := 0
	for f := range s.Servers {
		if _, ok := w[f]; ok {
			frontends++
		} else if s.Has(proxier.FrontendElement(proxier.SetFrontends, f)) {
			return fmt.Sprintf("%s is served; not upstream", f)
		}
	}
	if frontends != len(w) {
		return fmt.Sprintf("%d of upstream's %d frontends are served", frontends, len(w))
	}
	for f, u := range w {
		got := served{endpoints: destsOf(s, f), drop: s.Has(proxier.FrontendElement(proxier.SetDrop, f))}
		if to, ok := split[f]; ok {
			got.inside = destsOf(s, to)
		}
		if fmt.Sprint(got) != fmt.Sprint(u) {
			return fmt.Sprintf("%s is %+v, upstream %+v", f, got, u)
		}
	}
	return ""
}

func destsOf(s proxier.State, f proxier.Frontend) []string {
	var list []string
	for _, d := range s.Servers[f].Dests {
		list = append(list, d.Addr.String())
	}
	slices.Sort(list)
	return list
}
