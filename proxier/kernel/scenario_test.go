// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
)

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

// One proxier ends, its successor adopts what it finds and changes much
// around it: clients of a Service that stays as it is notice nothing.
func TestARestartIsNotNoticed(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA, podB)
	stream, err := c.client.dial("tcp", byClusterIP)
	must(t, err)
	defer stream.Close()
	_, err = stream.hear()
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	var loop sync.WaitGroup
	loop.Go(func() {
		for ctx.Err() == nil {
			if _, err := c.client.ask("tcp", byClusterIP); err != nil {
				t.Errorf("connect: %v", err)
			}
			asked.Add(1)
		}
	})
	for round := range 5 {
		c.stop()
		k, err := Open(Options{StateDir: t.TempDir()})
		must(t, err)
		defer k.Close()
		c.start(k)
		c.crowd(round)
		c.inbox.Service(webService(nil))
		c.inbox.Slice(webSlice(podA, podB))
		before := c.slices.Load()
		c.inbox.Synced()
		eventually(t, "the successor is done", patience, func() bool { return c.slices.Load() > before })
		must(t, stream.echo(fmt.Sprint("round ", round)))
		enough := asked.Load() + 20
		eventually(t, "connections go on", 3*patience, func() bool { return asked.Load() > enough })
	}
	cancel()
	loop.Wait()
	t.Logf("%d connections", asked.Load())
}

// crowd tells of 300 other Services, a third of them different each round.
func (c *cluster) crowd(round int) {
	for i := range 300 {
		c.inbox.Service(proxier.Service{
			Name:       proxier.Name{Namespace: "crowd", Name: fmt.Sprint(i)},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(1 + i%3*round), byte(i)})},
			Ports:      []proxier.Port{{Proto: proxier.TCP, Port: uint16(80 + i)}},
		})
	}
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
	c.inbox.Service(proxier.Service{
		Name:       proxier.Name{Namespace: "default", Name: "nobody"},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("fd00:96::9")},
		Ports:      []proxier.Port{{Proto: proxier.TCP, Port: 80}},
	})
	for _, from := range []*host{c.node, c.client} {
		c.refused(from, "tcp", "[fd00:96::9]:80")
	}
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
