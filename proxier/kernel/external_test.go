// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
)

// external is nobody's address; the network brings it to the node.
const (
	external   = "192.168.77.7"
	byExternal = external + ":80"
)

var (
	outsideIP = netip.MustParseAddr("198.51.100.9")
	clientIP  = netip.MustParseAddr("10.244.0.9")
	nodeTo    = netip.MustParseAddr("203.0.113.1") // the node's address on the way to pod remote
)

// balanced gives the Service a load balancer's address.
func balanced(s *proxier.Service) { s.BalancerIPs = []netip.Addr{netip.MustParseAddr(external)} }

// A host needs some route to the address, as to any other.
func (c *cluster) defaultRoute() {
	c.Helper()
	must(c.T, netlink.RouteReplace(&netlink.Route{LinkIndex: link(c.T, "to-outside").Attrs().Index, Dst: everything(nodeIP), Gw: outsideIP.AsSlice()}))
}

func TestLoadBalancer(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	c.service(balanced, podRemote)
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.outside, network, byExternal, "remote", nodeTo)
		c.wants(c.client, network, byExternal, "remote", nodeTo)
		c.wants(c.node, network, byExternal, "remote")
		c.wants(c.remote, network, byExternal, "remote") // hairpin from another node
	}
	c.endpoints(podA)
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.outside, network, byExternal, "a", podSide)
		c.wants(c.a, network, byExternal, "a", podSide) // hairpin
	}
	c.endpoints()
	must(t, os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644))
	for _, from := range []*host{c.outside, c.client, c.node} {
		c.refused(from, "tcp", byExternal)
		c.refused(from, "udp", byExternal)
	}
	c.service(nil, podA)
	if got, err := c.outside.ask("tcp", byExternal); err == nil {
		t.Errorf("an address that the Service lost is answered by %v", got)
	}
}

// An external address that is another node's must not take that node away
// from this one (kubernetes/kubernetes#127410, 104679, 93175, 75290, 80738).
func TestExternalIPOfAnotherNode(t *testing.T) {
	c := newCluster(t)
	other := netip.MustParseAddr("203.0.113.77")
	c.remote.connectAgain(t, nodeTo, other)
	c.service(func(s *proxier.Service) { s.ExternalIPs = []netip.Addr{other} }, podA)
	for _, from := range []*host{c.client, c.node, c.outside} {
		c.wants(from, "tcp", "203.0.113.77:80", "a")
		c.wants(from, "tcp", "203.0.113.77:8080", "remote") // the node's own port
	}
	local, err := Addresses()
	must(t, err)
	if slices.Contains(local, other) {
		t.Errorf("%s is an address of this host now", other)
	}
}

// The node's own address as an external one, with a port that a daemon of the
// node has elsewhere (kubernetes/kubernetes#114815: NodePort and external
// address on one IP).
func TestExternalIPOfThisNode(t *testing.T) {
	c := newCluster(t)
	c.node.serve(t, 8081)
	c.service(func(s *proxier.Service) { s.ExternalIPs = []netip.Addr{nodeIP} }, podA)
	for _, from := range []*host{c.client, c.node, c.outside} {
		c.wants(from, "tcp", "192.0.2.1:80", "a")
		c.wants(from, "tcp", byNodePort, "a")
		c.wants(from, "tcp", "192.0.2.1:8081", "node")
	}
}

// With external policy Local, clients outside see local endpoints and are
// seen; clients inside get all endpoints
// (kubernetes/kubernetes#75262, 93456, 71596, 66062, 89869).
func TestExternalLocal(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	local := func(s *proxier.Service) { balanced(s); s.ExternalLocal = true }
	c.service(local, podA, podRemote)
	for _, target := range []string{byExternal, byNodePort} {
		for _, network := range []string{"tcp", "udp"} {
			for range 3 {
				c.wants(c.outside, network, target, "a", outsideIP)
			}
			c.reachesBoth(c.client, network, target)
			c.reachesBoth(c.node, network, target)
		}
	}
	c.endpoints(podRemote)
	for _, target := range []string{byExternal, byNodePort} {
		for _, network := range []string{"tcp", "udp"} {
			c.dropped(c.outside, network, target)
			c.wants(c.client, network, target, "remote", clientIP)
			c.wants(c.node, network, target, "remote")
		}
	}
	c.endpoints()
	for _, from := range []*host{c.outside, c.client, c.node} {
		c.refused(from, "tcp", byExternal)
		c.refused(from, "tcp", byNodePort)
	}
}

func (c *cluster) reachesBoth(from *host, network, target string) {
	c.Helper()
	seen := map[string]bool{}
	for range 4 {
		got, err := from.ask(network, target)
		if err != nil {
			c.Errorf("%s -> %s %s: %v", from.name, network, target, err)
			return
		}
		seen[got.by] = true
	}
	if !seen["a"] || !seen["remote"] {
		c.Errorf("%s -> %s %s: reached %v, want a and remote", from.name, network, target, seen)
	}
}

// A connection that was led to the ClusterIP goes on past IPVS: it must stay
// whole for as long as it lasts, drained endpoints included.
func TestExternalLocalStreams(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	local := func(s *proxier.Service) { balanced(s); s.ExternalLocal = true }
	for _, backend := range []proxier.Endpoint{podRemote, podA} {
		c.service(local, backend)
		for _, from := range []*host{c.client, c.node, c.a} {
			for _, target := range []string{byExternal, byNodePort} {
				c.stream(from, target, func() { c.service(local, podB) })
				c.service(local, backend)
			}
		}
	}
}

// stream opens a connection, talks, lets something happen, and talks on.
func (c *cluster) stream(from *host, target string, happens func()) {
	c.Helper()
	s, err := from.dial("tcp", target)
	if err != nil {
		c.Errorf("%s -> %s: %v", from.name, target, err)
		return
	}
	defer s.Close()
	_, err = s.hear()
	for i := range 50 {
		err = errors.Join(err, s.echo(fmt.Sprint("before ", i)))
	}
	happens()
	for i := range 50 {
		err = errors.Join(err, s.echo(fmt.Sprint("after ", i)))
	}
	if err != nil {
		c.Errorf("%s -> %s: %v", from.name, target, err)
	}
}

// A UDP flow that was led elsewhere does not stay with an endpoint that is
// gone (kubernetes/kubernetes#105192, 125467).
func TestExternalLocalUDPMoves(t *testing.T) {
	c := newCluster(t)
	local := func(s *proxier.Service) { s.ExternalLocal = true }
	for _, from := range []*host{c.client, c.node} {
		c.service(local, podA)
		s, err := from.dial("udp", byNodePort)
		must(t, err)
		defer s.Close()
		fmt.Fprintln(s, "hello")
		if got, err := s.hear(); err != nil || got.by != "a" {
			t.Fatalf("%s: %v, %v, want a", from.name, got, err)
		}
		c.endpoints(podRemote)
		moved := false
		for range 3 {
			fmt.Fprintln(s, "hello")
			got, err := s.hear()
			moved = moved || err == nil && got.by == "remote"
		}
		if !moved {
			t.Errorf("%s stays with an endpoint that is gone", from.name)
		}
	}
}

func TestBothPoliciesLocal(t *testing.T) {
	c := newCluster(t)
	both := func(s *proxier.Service) { s.ExternalLocal, s.InternalLocal = true, true }
	c.service(both, podRemote)
	c.dropped(c.client, "tcp", byClusterIP)
	c.dropped(c.outside, "tcp", byNodePort)
	for _, from := range []*host{c.client, c.node} {
		c.wants(from, "tcp", byNodePort, "remote")
		for _, hidden := range []string{"10.96.0.7:65535", "10.96.0.7:65534"} {
			c.refused(from, "tcp", hidden)
		}
	}
	c.endpoints(podA, podRemote)
	for range 3 {
		c.wants(c.client, "tcp", byClusterIP, "a", clientIP)
	}
	c.reachesBoth(c.client, "tcp", byNodePort)
}

// Ranges hold before anything else is decided, for pods and the node too
// (kubernetes/kubernetes#119656, 88698, 62638).
func TestSourceRanges(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	ranges := func(list ...string) func(*proxier.Service) {
		return func(s *proxier.Service) {
			balanced(s)
			for _, text := range list {
				s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(text))
			}
		}
	}
	for _, externalLocal := range []bool{false, true} {
		with := func(list ...string) func(*proxier.Service) {
			return func(s *proxier.Service) { ranges(list...)(s); s.ExternalLocal = externalLocal }
		}
		c.service(with("198.51.100.0/24"), podA)
		c.wants(c.outside, "tcp", byExternal, "a")
		c.wants(c.outside, "udp", byExternal, "a")
		c.dropped(c.client, "tcp", byExternal)
		c.dropped(c.remote, "tcp", byExternal)
		c.wants(c.outside, "tcp", byNodePort, "a") // ranges are the load balancer's, not the Service's
		c.wants(c.client, "tcp", byClusterIP, "a")
		c.service(with("198.51.100.128/25", "10.244.0.0/24"), podA)
		c.dropped(c.outside, "tcp", byExternal)
		c.dropped(c.outside, "udp", byExternal)
		c.wants(c.client, "tcp", byExternal, "a")
		c.service(with("2001:db8::/32"), podA) // none for IPv4
		c.wants(c.outside, "tcp", byExternal, "a")
	}
}

// Strict reverse path filtering has to let captured packets in.
func TestReversePathFilter(t *testing.T) {
	c := newCluster(t)
	for _, mode := range []string{"0", "1", "2"} {
		for _, name := range []string{"all", "default", "to-outside", "to-client", "to-remote", "to-a", "lo"} {
			must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte(mode), 0o644))
		}
		for _, backend := range []struct {
			name string
			proxier.Endpoint
		}{{"a", podA}, {"remote", podRemote}} {
			c.service(balanced, backend.Endpoint)
			for _, target := range []string{byExternal, byClusterIP, byNodePort} {
				c.wants(c.outside, "tcp", target, backend.name)
				c.wants(c.client, "tcp", target, backend.name)
			}
			c.service(func(s *proxier.Service) { balanced(s); s.ExternalLocal = true }, backend.Endpoint)
			for _, target := range []string{byExternal, byNodePort} {
				c.wants(c.client, "tcp", target, backend.name)
			}
		}
	}
}

func TestExternalIPv6(t *testing.T) {
	c := newCluster(t)
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
	side, a, client := netip.MustParseAddr("fd00:244::1"), netip.MustParseAddr("fd00:244::2"), netip.MustParseAddr("fd00:244::9")
	outside := netip.MustParseAddr("2001:db8:9::9")
	c.a.connectAgain(t, side, a)
	c.client.connectAgain(t, side, client)
	c.outside.connectAgain(t, netip.MustParseAddr("2001:db8:9::1"), outside)
	backend := proxier.Endpoint{Addr: a, Node: "node", Ready: true, Serving: true}
	for _, externalLocal := range []bool{false, true} {
		c.service(func(s *proxier.Service) {
			s.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd00:96::7")}
			s.BalancerIPs = []netip.Addr{netip.MustParseAddr("2001:db8:77::7")}
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48"), netip.MustParsePrefix("fd00:244::9/128")}
			s.ExternalLocal = externalLocal
		}, backend)
		seen := side
		if externalLocal {
			seen = outside
		}
		for _, network := range []string{"tcp", "udp"} {
			c.wants(c.outside, network, "[2001:db8:77::7]:80", "a", seen)
			c.wants(c.client, network, "[2001:db8:77::7]:80", "a")
			c.wants(c.outside, network, "[2001:db8::1]:30080", "a", seen)
			c.dropped(c.a, network, "[2001:db8:77::7]:80")
		}
	}
}

func TestCaptureRuleHeals(t *testing.T) {
	c := newCluster(t)
	c.service(balanced, podA)
	for what, harm := range map[string]func() error{
		"rule deleted":  func() error { return netlink.RuleDel(captureRule(netlink.FAMILY_V4)) },
		"route deleted": func() error { return netlink.RouteDel(captureRoute(true)) },
	} {
		c.wants(c.outside, "tcp", byExternal, "a")
		must(t, harm())
		took := eventually(t, what, patience, func() bool {
			_, err := c.outside.ask("tcp", byExternal)
			return err == nil
		})
		t.Logf("%s: healed after %s", what, took)
	}
}
