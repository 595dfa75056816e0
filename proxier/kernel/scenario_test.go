// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
)

// cluster is one node under test with the machines around it:
//
//	pod a, pod b, pod client    on the node (10.244.0.x), each on a cable
//	pod remote                  on another node (10.244.1.2)
//	outside                     no part of the cluster (198.51.100.9)
type cluster struct {
	*testing.T
	node, a, b, client, remote, outside *host

	inbox  *proxier.Inbox
	slices atomic.Int64 // told to the kernel so far
}

var (
	nodeIP    = netip.MustParseAddr("192.0.2.1")
	nodeIP6   = netip.MustParseAddr("2001:db8::1")
	podSide   = netip.MustParseAddr("10.244.0.1")
	clusterIP = netip.MustParsePrefix("10.96.0.0/16")
)

func newCluster(t *testing.T) *cluster {
	k := fresh(t)
	c := &cluster{T: t, node: node(), inbox: proxier.NewInbox(),
		a: newHost(t, "a"), b: newHost(t, "b"), client: newHost(t, "client"), remote: newHost(t, "remote"), outside: newHost(t, "outside")}
	addr := netip.MustParseAddr
	c.a.connect(t, podSide, addr("10.244.0.2"))
	c.b.connect(t, podSide, addr("10.244.0.3"))
	c.client.connect(t, podSide, addr("10.244.0.9"))
	c.remote.connect(t, addr("203.0.113.1"), addr("10.244.1.2"))
	c.outside.connect(t, addr("198.51.100.1"), addr("198.51.100.9"))
	for _, h := range []*host{c.a, c.b, c.remote} {
		h.serve(t, 8080)
	}
	must(t, k.Prepare(t.Context()))
	c.start(k)
	c.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}})
	c.inbox.ServiceCIDR("kubernetes", []netip.Prefix{clusterIP, netip.MustParsePrefix("fd00:96::/112")})
	c.inbox.Synced()
	return c
}

// start runs the proxier and stops it before the kernel is cleaned up.
func (c *cluster) start(k *Kernel) {
	ctx, cancel := context.WithCancel(c.Context())
	var work sync.WaitGroup
	p := &proxier.Proxier{
		Kernel: k, Inbox: c.inbox,
		Model:  proxier.NewModel(proxier.Config{Node: "node", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}),
		Timing: proxier.Timing{DrainTick: 200 * time.Millisecond},
		Report: func(r proxier.Report) {
			c.slices.Add(int64(r.Slices))
			if r.Err != nil {
				c.Errorf("pass: %v", r.Err)
			}
		},
	}
	work.Go(func() { p.Run(ctx) })
	work.Go(func() {
		if err := Watch(ctx, Events{Drift: c.inbox.Drift, Addresses: c.inbox.LocalAddresses}); err != nil {
			c.Errorf("watch: %v", err)
		}
	})
	c.Cleanup(func() { cancel(); work.Wait() })
}

// service makes a Service `web` on port 80, TCP and UDP, and its endpoints.
func (c *cluster) service(change func(*proxier.Service), endpoints ...proxier.Endpoint) {
	s := proxier.Service{
		Name:       proxier.Name{Namespace: "default", Name: "web"},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
		Ports: []proxier.Port{
			{Name: "t", Proto: proxier.TCP, Port: 80, NodePort: 30080},
			{Name: "u", Proto: proxier.UDP, Port: 80, NodePort: 30080},
		},
	}
	if change != nil {
		change(&s)
	}
	c.inbox.Service(s)
	c.endpoints(endpoints...)
}

// endpoints replaces the endpoints and waits until the kernel has them.
func (c *cluster) endpoints(list ...proxier.Endpoint) {
	c.Helper()
	before := c.slices.Load()
	c.inbox.Slice(proxier.Slice{
		Name: proxier.Name{Namespace: "default", Name: "web-1"}, Service: proxier.Name{Namespace: "default", Name: "web"},
		Ports:     []proxier.SlicePort{{Name: "t", Proto: proxier.TCP, Port: 8080}, {Name: "u", Proto: proxier.UDP, Port: 8080}},
		Endpoints: list,
	})
	eventually(c.T, "the endpoints reach the kernel", patience, func() bool { return c.slices.Load() > before })
}

func pod(ip, node string) proxier.Endpoint {
	return proxier.Endpoint{Addr: netip.MustParseAddr(ip), Node: node, Ready: true, Serving: true}
}

var (
	podA      = pod("10.244.0.2", "node")
	podB      = pod("10.244.0.3", "node")
	podRemote = pod("10.244.1.2", "elsewhere")
)

// wants asks and checks who answers, and whom it took the client for.
func (c *cluster) wants(from *host, network, addr, by string, seen ...netip.Addr) {
	c.Helper()
	got, err := from.ask(network, addr)
	if err != nil {
		c.Errorf("%s -> %s %s: %v", from.name, network, addr, err)
		return
	}
	if got.by != by {
		c.Errorf("%s -> %s %s: %s answered, want %s", from.name, network, addr, got.by, by)
	}
	for _, s := range seen {
		if got.from != s {
			c.Errorf("%s -> %s %s: seen as %s, want %s", from.name, network, addr, got.from, s)
		}
	}
}

func (c *cluster) refused(from *host, network, addr string) {
	c.Helper()
	got, err := from.ask(network, addr)
	if errors.Is(err, syscall.EPERM) && network == "udp" && from.do == nil {
		return // what a packet that is stopped in OUTPUT looks like to its own sender
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		c.Errorf("%s -> %s %s: %v, %v, want connection refused", from.name, network, addr, got, err)
	}
}

func (c *cluster) dropped(from *host, network, addr string) {
	c.Helper()
	var timeout interface{ Timeout() bool }
	if got, err := from.ask(network, addr); !errors.As(err, &timeout) || !timeout.Timeout() {
		c.Errorf("%s -> %s %s: %v, %v, want no answer at all", from.name, network, addr, got, err)
	}
}

const (
	byClusterIP = "10.96.0.7:80"
	byNodePort  = "192.0.2.1:30080"
)

func TestClusterIP(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.client, network, byClusterIP, "a", netip.MustParseAddr("10.244.0.9"))
		c.wants(c.node, network, byClusterIP, "a", nodeIP)
		c.wants(c.outside, network, byClusterIP, "a", podSide)
		c.wants(c.a, network, byClusterIP, "a", podSide) // hairpin
	}
	c.endpoints(podRemote)
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.client, network, byClusterIP, "remote", netip.MustParseAddr("10.244.0.9"))
		c.wants(c.node, network, byClusterIP, "remote", nodeIP)
		c.wants(c.outside, network, byClusterIP, "remote", netip.MustParseAddr("203.0.113.1"))
	}
}

func TestNodePort(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podRemote)
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.outside, network, byNodePort, "remote", netip.MustParseAddr("203.0.113.1"))
		c.wants(c.client, network, byNodePort, "remote")
		c.wants(c.node, network, byNodePort, "remote")
	}
	c.service(func(s *proxier.Service) { s.ExternalLocal = true }, podA, podRemote)
	for range 4 {
		c.wants(c.outside, "tcp", byNodePort, "a", netip.MustParseAddr("198.51.100.9"))
	}
	c.endpoints(podRemote)
	c.dropped(c.outside, "tcp", byNodePort)
	c.wants(c.client, "tcp", byClusterIP, "remote")
}

func TestBothEndpointsGetTheirShare(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA, podB)
	count := map[string]int{}
	for range 20 {
		got, err := c.client.ask("tcp", byClusterIP)
		must(t, err)
		count[got.by]++
	}
	if count["a"] != 10 || count["b"] != 10 {
		t.Errorf("round robin gave %v, want ten each", count)
	}
	c.service(func(s *proxier.Service) { s.Affinity = time.Hour }, podA, podB)
	first, err := c.client.ask("tcp", byClusterIP)
	must(t, err)
	for range 6 {
		c.wants(c.client, "tcp", byClusterIP, first.by)
	}
}

// A daemon on the node that listens on every address must not answer on
// addresses of Services (kubernetes/kubernetes#72236).
func TestRefused(t *testing.T) {
	c := newCluster(t)
	// Else the kernel stops refusing UDP after a few packets.
	must(t, os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644))
	c.node.serve(t, 8081)
	c.service(nil)
	for _, from := range []*host{c.client, c.node, c.outside} {
		for _, network := range []string{"tcp", "udp"} {
			c.refused(from, network, byClusterIP)       // no endpoints
			c.refused(from, network, byNodePort)        // the same
			c.refused(from, network, "10.96.0.7:8081")  // a port the Service does not have
			c.refused(from, network, "10.96.99.9:8081") // an address no Service has
		}
	}
	c.wants(c.client, "tcp", "192.0.2.1:8081", "node") // the node itself stays reachable
	c.service(func(s *proxier.Service) { s.InternalLocal = true }, podRemote)
	c.dropped(c.client, "tcp", byClusterIP)
}

func TestDrain(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	stream, err := c.client.dial("tcp", byClusterIP)
	must(t, err)
	defer stream.Close()
	_, err = stream.hear()
	must(t, err)

	c.endpoints(podB)
	for i := range 5 {
		c.wants(c.client, "tcp", byClusterIP, "b")
		must(t, stream.echo(fmt.Sprint("draining ", i)))
	}
	c.endpoints(podA, podB)
	must(t, stream.echo("ready again"))
	c.endpoints(podB)
	must(t, stream.echo("gone again"))

	udp, err := c.client.dial("udp", byClusterIP)
	must(t, err)
	defer udp.Close()
	c.endpoints(podA)
	moved := 0
	for range 5 {
		if fmt.Fprintln(udp, "hello"); moved == 0 {
			if got, err := udp.hear(); err == nil && got.by == "a" {
				moved++
			}
		}
	}
	if moved == 0 {
		t.Error("a UDP flow does not move to the endpoint that is left")
	}
}

// A client that sent to a NodePort before there was one must not be stuck
// with the node itself.
func TestUDPFlowOlderThanItsNodePort(t *testing.T) {
	c := newCluster(t)
	c.service(func(s *proxier.Service) { s.Ports[1].NodePort = 0 }, podRemote)
	s, err := c.outside.dial("udp", byNodePort)
	must(t, err)
	defer s.Close()
	fmt.Fprintln(s, "too early")
	s.hear()
	c.service(nil, podRemote)
	fmt.Fprintln(s, "again")
	if got, err := s.hear(); err != nil || got.by != "remote" || got.from != netip.MustParseAddr("203.0.113.1") {
		t.Errorf("%v, %v, want an answer from remote to the node's address", got, err)
	}
}

func TestHealing(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	c.wants(c.client, "tcp", byClusterIP, "a")
	for what, harm := range map[string]func() error{
		"table deleted": deleteElsewhere,
		"route deleted": func() error { return netlink.RouteDel(localRoute(clusterIP, nodeIP)) },
	} {
		before := c.state()
		must(t, harm())
		took := eventually(t, what, time.Second, func() bool { return c.state() == before })
		t.Logf("%s: healed after %s", what, took)
		c.wants(c.client, "tcp", byClusterIP, "a")
	}
}

// deleteElsewhere deletes the table as another program: our own changes are
// no drift, and the kernel tells who made them.
func deleteElsewhere() error {
	return exec.Command("nft", "delete", "table", "inet", TableName).Run()
}

func TestIPv6(t *testing.T) {
	c := newCluster(t)
	side, a, client := netip.MustParseAddr("fd00:244::1"), netip.MustParseAddr("fd00:244::2"), netip.MustParseAddr("fd00:244::9")
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
	c.a.connectAgain(t, side, a)
	c.client.connectAgain(t, side, client)
	c.inbox.Service(proxier.Service{
		Name:       proxier.Name{Namespace: "default", Name: "web"},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("fd00:96::7")},
		Ports:      []proxier.Port{{Name: "t", Proto: proxier.TCP, Port: 80, NodePort: 30080}, {Name: "u", Proto: proxier.UDP, Port: 80}},
	})
	c.endpoints(proxier.Endpoint{Addr: a, Node: "node", Ready: true, Serving: true})
	for _, network := range []string{"tcp", "udp"} {
		c.wants(c.client, network, "[fd00:96::7]:80", "a", client)
		c.wants(c.node, network, "[fd00:96::7]:80", "a", nodeIP6)
		c.refused(c.client, network, "[fd00:96::8]:80")
	}
	c.wants(c.client, "tcp", "[2001:db8::1]:30080", "a")
	c.wants(c.a, "tcp", "[fd00:96::7]:80", "a", side)
}

func (c *cluster) state() string {
	elements, err := readSets()
	if err != nil {
		return err.Error()
	}
	routes, err := readRoutes()
	must(c.T, err)
	return proxier.State{Elements: elements, Routes: routes}.String()
}
