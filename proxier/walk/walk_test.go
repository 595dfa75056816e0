// SPDX-License-Identifier: Apache-2.0

package walk_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/walk"
)

const (
	node    = "192.168.0.2"
	pod     = "10.244.0.9"
	outside = "203.0.113.7"
)

// host is a node with pods in 10.244.0.0/16.
func host() walk.Host {
	return walk.Host{Addrs: []netip.Addr{netip.MustParseAddr(node), netip.MustParseAddr("127.0.0.1")}}
}

func service(name, ip string, port proxier.Port) proxier.Service {
	return proxier.Service{
		Name: proxier.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)}, Ports: []proxier.Port{port},
	}
}

// state is four Services seen from the node "here".
//
//	web    two endpoints, one here; a NodePort and a load balancer with a range
//	local  the same with both policies Local, and an external address
//	far    policies Local and its endpoint elsewhere
//	none   no endpoint
func state(detect proxier.DetectLocal) proxier.State {
	m := proxier.NewModel(proxier.Config{Node: "here", DetectLocal: detect})
	m.SetNode(proxier.Node{Addrs: []netip.Addr{netip.MustParseAddr(node)}})
	m.SetServiceCIDR("kubernetes", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")})

	web := service("web", "10.96.0.1", proxier.Port{Proto: proxier.TCP, Port: 80, NodePort: 30001})
	web.BalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	web.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	local := service("local", "10.96.0.2", proxier.Port{Proto: proxier.TCP, Port: 80, NodePort: 30002})
	local.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.2")}
	local.InternalLocal, local.ExternalLocal = true, true
	far := service("far", "10.96.0.3", proxier.Port{Proto: proxier.UDP, Port: 53, NodePort: 30003})
	far.InternalLocal, far.ExternalLocal = true, true
	none := service("none", "10.96.0.4", proxier.Port{Proto: proxier.TCP, Port: 80})
	none.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.4")}
	for _, s := range []proxier.Service{web, local, far, none} {
		m.SetService(s)
	}
	for _, s := range []proxier.Service{web, local, far} {
		slice := proxier.Slice{Name: s.Name, Service: s.Name, Ports: []proxier.SlicePort{{Proto: s.Ports[0].Proto, Port: 8080}}}
		there := proxier.Endpoint{Addr: netip.MustParseAddr("10.244.1.1"), Node: "there", Ready: true}
		here := proxier.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: "here", Ready: true}
		if slice.Endpoints = []proxier.Endpoint{there}; s.Name != far.Name {
			slice.Endpoints = append(slice.Endpoints, here)
		}
		m.SetSlice(slice)
	}
	m.Update()
	return m.Want()
}

func byAddress() proxier.DetectLocal {
	return proxier.DetectLocal{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
}

func packet(from, to string) walk.Packet {
	proto := proxier.TCP
	to, udp := strings.CutSuffix(to, "/udp")
	if udp {
		proto = proxier.UDP
	}
	return walk.Packet{Source: netip.MustParseAddr(from), Dest: netip.MustParseAddrPort(to), Proto: proto}
}

const (
	both       = "10.244.0.1:8080, 10.244.1.1:8080"
	bothMasq   = "10.244.0.1:8080 masqueraded, 10.244.1.1:8080 masqueraded"
	here       = "10.244.0.1:8080"
	nowhere    = "not ours"
	refused    = "refused"
	dropped    = "dropped"
	clusterIP  = "10.96.0.1:80"
	nodePort   = node + ":30001"
	balancer   = "198.51.100.1:80"
	localIP    = "10.96.0.2:80"
	localNode  = node + ":30002"
	localOuter = "198.51.100.2:80"
)

func TestWalk(t *testing.T) {
	s := state(byAddress())
	for _, c := range []struct{ name, from, to, want string }{
		{"pod to ClusterIP", pod, clusterIP, both},
		{"host to ClusterIP keeps its source", node, clusterIP, both},
		{"outside to ClusterIP", outside, clusterIP, bothMasq},
		{"endpoint to itself", "10.244.0.1", clusterIP, "10.244.0.1:8080 masqueraded, 10.244.1.1:8080"},
		{"unknown port", pod, "10.96.0.1:81", refused},
		{"unknown protocol", pod, "10.96.0.1:80/udp", refused},
		{"unknown ClusterIP", node, "10.96.9.9:80", refused},
		{"no endpoints", pod, "10.96.0.4:80", refused},
		{"no endpoints, from outside", outside, "198.51.100.4:80", refused},
		{"no endpoints, from the host", node, "198.51.100.4:80", refused},
		{"outside to NodePort", outside, nodePort, bothMasq},
		{"pod to NodePort", pod, nodePort, bothMasq},
		{"host to NodePort", node, nodePort, both},
		{"the host's other ports", outside, node + ":22", nowhere},
		{"NodePort on loopback", "127.0.0.1", "127.0.0.1:30001", nowhere},
		{"in range", outside, balancer, bothMasq},
		{"out of range", "198.51.100.77", balancer, dropped},
		{"pod out of range", pod, balancer, dropped},
		{"host out of range", node, balancer, dropped},
		{"the balancer's other ports", outside, "198.51.100.1:81", nowhere},
		{"Local: pod to ClusterIP", pod, localIP, here},
		{"Local: outside to ClusterIP", outside, localIP, "10.244.0.1:8080 masqueraded"},
		{"Local: outside to NodePort", outside, localNode, here},
		{"Local: outside to external address", outside, localOuter, here},
		{"Local: pod to NodePort is inside", pod, localNode, both},
		{"Local: pod to external address is inside", pod, localOuter, both},
		{"Local: host to external address is inside", node, localOuter, both},
		{"Local: the split's target is for nobody else", pod, "10.96.0.2:65535", refused},
		{"far: pod to ClusterIP", pod, "10.96.0.3:53/udp", dropped},
		{"far: outside to NodePort", outside, node + ":30003/udp", dropped},
		{"far: pod to NodePort is inside", pod, node + ":30003/udp", "10.244.1.1:8080"},
		{"somewhere else", pod, "8.8.8.8:53/udp", nowhere},
		{"host somewhere else", node, "8.8.8.8:53/udp", nowhere},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := walk.Walk(s, host(), packet(c.from, c.to)); got.String() != c.want {
				t.Errorf("%s to %s: %s, want %s, by\n%v", c.from, c.to, got, c.want, got.Steps)
			}
		})
	}
}

func TestWhoIsInside(t *testing.T) {
	for _, c := range []struct {
		name      string
		detect    proxier.DetectLocal
		from      string
		by        string // interface
		clusterIP string
		localNode string
	}{
		{"pod, nothing known", proxier.DetectLocal{}, pod, "", both, here},
		{"outside, nothing known", proxier.DetectLocal{}, outside, "", both, here},
		{"pod by bridge", proxier.DetectLocal{Interface: "cni0"}, pod, "cni0", both, both},
		{"outside by bridge", proxier.DetectLocal{Interface: "cni0"}, outside, "eth0", bothMasq, here},
		{"pod by prefix", proxier.DetectLocal{InterfacePrefix: "veth"}, pod, "veth1a2b", both, both},
		{"pod of another node by prefix", proxier.DetectLocal{InterfacePrefix: "veth"}, "10.244.1.9", "eth0", bothMasq, here},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := state(c.detect), host()
			h.DetectLocal = c.detect
			for to, want := range map[string]string{clusterIP: c.clusterIP, localNode: c.localNode} {
				p := packet(c.from, to)
				p.Interface = c.by
				if got := walk.Walk(s, h, p); got.String() != want {
					t.Errorf("%s to %s: %s, want %s, by\n%v", c.from, to, got, want, got.Steps)
				}
			}
		})
	}
}

func TestMasqueradeAll(t *testing.T) {
	h := host()
	h.MasqueradeAll = true
	if got := walk.Walk(state(byAddress()), h, packet(pod, clusterIP)).String(); got != bothMasq {
		t.Errorf("pod to ClusterIP: %s, want %s", got, bothMasq)
	}
}

// A real server that drains keeps its connections and gets no new one.
func TestDrainingServersGetNothing(t *testing.T) {
	s := state(byAddress())
	f := proxier.Frontend{Addr: netip.MustParseAddrPort(clusterIP), Proto: proxier.TCP}
	server := s.Servers[f]
	server.Dests = slices.Clone(server.Dests)
	server.Dests[0].Weight = 0
	s.Servers[f] = server
	if got := walk.Walk(s, host(), packet(pod, clusterIP)).String(); got != "10.244.1.1:8080" {
		t.Errorf("got %s, want the second endpoint only", got)
	}
}

func TestSteps(t *testing.T) {
	s := state(byAddress())
	var b strings.Builder
	for _, p := range []walk.Packet{
		packet(outside, balancer), packet(pod, localOuter), packet("10.244.0.1", clusterIP), packet(node, "10.96.0.1:81"), packet(outside, node+":30003/udp"), packet(pod, "8.8.8.8:53/udp"),
		packet(outside, "198.51.100.4:80"), packet(node, "198.51.100.4:80"),
	} {
		b.WriteString(p.String() + "\n")
		out := walk.Walk(s, host(), p)
		for _, step := range out.Steps {
			b.WriteString("  " + step.String() + "\n")
		}
		b.WriteString("  = " + out.String() + "\n")
	}
	golden.Equal(t, "steps.txt", []byte(b.String()))
}

// FuzzWalk: whoever asks for whatever, the answer fits together.
func FuzzWalk(f *testing.F) {
	s := state(byAddress())
	for server := range s.Servers {
		f.Add(netip.MustParseAddr(pod).AsSlice(), server.Addr.Addr().AsSlice(), server.Addr.Port(), uint8(server.Proto))
	}
	f.Fuzz(func(t *testing.T, from, to []byte, port uint16, proto uint8) {
		source, _ := netip.AddrFromSlice(from)
		dest, _ := netip.AddrFromSlice(to)
		out := walk.Walk(s, host(), walk.Packet{Source: source, Dest: netip.AddrPortFrom(dest, port), Proto: proxier.Protocol(proto)})
		if (out.Verdict == walk.Balanced) != (len(out.Endpoints) > 0) {
			t.Errorf("%s with endpoints %v", out.Verdict, out.Endpoints)
		}
		if len(out.Steps) == 0 {
			t.Error("no step tells why")
		}
		if _, ok := s.Servers[out.Server]; out.Verdict == walk.Balanced && !ok {
			t.Errorf("balanced by %s, which does not exist", out.Server)
		}
	})
}
