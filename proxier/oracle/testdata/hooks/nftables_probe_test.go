// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	netutils "k8s.io/utils/net"
	"sigs.k8s.io/knftables"

	"github.com/muster-project/muster/proxier/oracle"
)

// syncProxyRules lets upstream write its rules and then sends packets through
// them and through muster's.
func (proxier *Proxier) syncProxyRules() error {
	err := proxier.upstreamSyncProxyRules()
	if w, ok := witnessOf(proxier.nftables); ok && err == nil && proxier.isInitialized() {
		w.probe()
	}
	return err
}

// probe writes down the packets on which the two differ, and how many there
// are on which they do not.
func (w *witness) probe() {
	state, err := w.cluster.Replay(w.place())
	if err != nil {
		panic(err)
	}
	host := w.host(testNodeIPs)
	total := oracle.Flow{Test: runningTest(), Probe: true}
	for _, to := range w.destinations() {
		for _, from := range w.sources() {
			f := to
			f.Test, f.Probe, f.Source = total.Test, true, from
			f.Upstream = w.trace(f)
			if f = f.Walk(&w.cluster, state, host); f.Same() {
				total.Agreed++
			} else {
				write(f)
			}
		}
	}
	write(total)
}

func (w *witness) trace(f oracle.Flow) oracle.Answer {
	// Upstream's tracer needs a test to complain to, and here is none.
	_, output, masquerade := tracePacket(new(testing.T), w.proxier.nftables.(*knftables.Fake),
		f.Source.String(), f.Proto, f.Dest.Addr().String(), strconv.Itoa(int(f.Dest.Port())), testNodeIPs)
	return oracle.UpstreamAnswer(output, masquerade)
}

// sources are a pod, each endpoint here, the node, and strangers with and
// without a place in the source ranges that upstream's tests use. Upstream's
// tracer masquerades endpoints elsewhere that ask themselves through this node;
// the rules it reads do not.
func (w *witness) sources() []netip.Addr {
	texts := []string{"10.0.0.2", testNodeIP, testNodeIPAlt, testExternalClient, testExternalClientBlocked, "192.168.0.9"}
	if w.proxier.ipFamily == v1.IPv6Protocol {
		texts = []string{"fd00:10::2", testNodeIPv6, testNodeIPv6Alt, "2600:5200::1"}
	}
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return append(list, w.cluster.Endpoints(w.proxier.ipFamily == v1.IPv4Protocol, testNodeName)...)
}

// destinations are all that Services promise, and what lies beside it.
func (w *witness) destinations() []oracle.Flow {
	var list []oracle.Flow
	add := func(ip string, port int32, proto v1.Protocol) {
		a := netutils.ParseIPSloppy(ip)
		if a == nil || (a.To4() != nil) != (w.proxier.ipFamily == v1.IPv4Protocol) {
			return
		}
		addr, _ := netip.AddrFromSlice(a)
		list = append(list, oracle.Flow{Dest: netip.AddrPortFrom(addr.Unmap(), uint16(port)), Proto: strings.ToLower(string(proto))})
	}
	for _, s := range w.cluster.Services() {
		if s.Spec.SessionAffinity == v1.ServiceAffinityClientIP {
			continue // upstream's tracer does not know the rules they get
		}
		ips := append([]string{s.Spec.ClusterIP}, s.Spec.ExternalIPs...)
		for _, i := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, i.IP)
		}
		for _, p := range s.Spec.Ports {
			for _, ip := range ips {
				add(ip, p.Port, p.Protocol)
				add(ip, p.Port+1000, p.Protocol)
			}
			for _, ip := range testNodeIPs {
				if p.NodePort != 0 {
					add(ip, p.NodePort, p.Protocol)
				}
				add(ip, p.Port, p.Protocol)
			}
		}
	}
	add("172.30.255.254", 80, v1.ProtocolTCP)
	add("203.0.113.200", 80, v1.ProtocolTCP)
	add("2600:5200::2", 80, v1.ProtocolTCP)
	return list
}

// runningTest finds the test of upstream by its name on the stack.
func runningTest() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if _, name, ok := strings.Cut(frame.Function, "/nftables.Test"); ok {
			name, _, _ = strings.Cut(name, ".")
			return "Test" + name
		}
		if !more {
			return "no test"
		}
	}
}

// TestRandomObjects programs random objects. The probes of syncProxyRules do
// the rest.
func TestRandomObjects(t *testing.T) {
	seeds, err := strconv.ParseUint(os.Getenv(oracle.EnvSeeds), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomObjects(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func randomObjects(t *testing.T, r *rand.Rand) {
	family := []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol}[r.IntN(2)]
	_, p := NewFakeProxier(family)
	p.masqueradeAll = r.IntN(4) == 0
	if r.IntN(4) == 0 {
		p.localDetector = proxyutil.NewNoOpLocalDetector()
	}
	if r.IntN(2) == 0 {
		p.nodePortAddresses = proxyutil.NewNodePortAddresses(family, []string{"192.168.0.0/24", "192.168.1.0/24", "2001:db8::/64", "2001:db8:1::/64"})
	}
	p.OnServiceSynced()
	p.OnEndpointSlicesSynced()
	random := oracle.Random{Rand: r, Node: testNodeName}
	for range 12 {
		for range 1 + r.IntN(4) {
			tell(p, random.Event())
		}
		if r.IntN(6) == 0 {
			p.OnTopologyChange(map[string]string{v1.LabelTopologyZone: []string{"", "zone-a", "zone-b"}[r.IntN(3)]})
		}
		if err := p.syncProxyRules(); err != nil {
			t.Fatal(err)
		}
	}
}

func tell(p *Proxier, e oracle.Event) {
	switch {
	case e.Service != nil || e.OldService != nil:
		p.OnServiceUpdate(e.OldService, e.Service)
	case e.Slice != nil:
		p.OnEndpointSliceUpdate(e.OldSlice, e.Slice)
	default:
		p.OnEndpointSliceDelete(e.OldSlice)
	}
}
