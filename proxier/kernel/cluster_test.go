// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

	pods   proxier.DetectLocal
	inbox  *proxier.Inbox
	slices atomic.Int64 // told to the kernel so far
	stop   func()       // ends the proxier and leaves the kernel as it is
}

var (
	nodeIP    = netip.MustParseAddr("192.0.2.1")
	nodeIP6   = netip.MustParseAddr("2001:db8::1")
	podSide   = netip.MustParseAddr("10.244.0.1")
	clusterIP = netip.MustParsePrefix("10.96.0.0/16")
)

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return newClusterWith(t, proxier.DetectLocal{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, Options{})
}

// newClusterWith is one whose node knows its pods in another way.
func newClusterWith(t *testing.T, pods proxier.DetectLocal, o Options) *cluster {
	t.Helper()
	o.DetectLocal = pods
	k := freshWith(t, o)
	c := &cluster{T: t, pods: pods, node: node(),
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
	c.inbox.Synced()
	c.Cleanup(func() { c.stop() })
	return c
}

// start runs a proxier that knows the node and the service CIDRs.
func (c *cluster) start(k *Kernel) {
	c.inbox = proxier.NewInbox()
	c.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}})
	c.inbox.ServiceCIDR("kubernetes", []netip.Prefix{clusterIP, netip.MustParsePrefix("fd00:96::/112")})
	ctx, cancel := context.WithCancel(c.Context())
	var work sync.WaitGroup
	p := &proxier.Proxier{
		Kernel: k, Inbox: c.inbox,
		Model:  proxier.NewModel(proxier.Config{Node: "node", DetectLocal: c.pods}),
		Timing: proxier.Timing{DrainTick: 200 * time.Millisecond},
		Report: func(r proxier.Report) {
			c.slices.Add(int64(r.Slices))
			if r.Err != nil && !errors.Is(r.Err, context.Canceled) {
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
	c.stop = func() { cancel(); work.Wait() }
}

// service makes a Service `web` on port 80, TCP and UDP, and its endpoints.
func (c *cluster) service(change func(*proxier.Service), endpoints ...proxier.Endpoint) {
	c.inbox.Service(webService(change))
	c.endpoints(endpoints...)
}

func webService(change func(*proxier.Service)) proxier.Service {
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
	return s
}

// endpoints replaces the endpoints and waits until the kernel has them.
func (c *cluster) endpoints(list ...proxier.Endpoint) {
	c.Helper()
	before := c.slices.Load()
	c.inbox.Slice(webSlice(list...))
	eventually(c.T, "the endpoints reach the kernel", patience, func() bool { return c.slices.Load() > before })
}

func webSlice(list ...proxier.Endpoint) proxier.Slice {
	return proxier.Slice{
		Name: proxier.Name{Namespace: "default", Name: "web-1"}, Service: proxier.Name{Namespace: "default", Name: "web"},
		Ports:     []proxier.SlicePort{{Name: "t", Proto: proxier.TCP, Port: 8080}, {Name: "u", Proto: proxier.UDP, Port: 8080}},
		Endpoints: list,
	}
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
	const silence = 500 * time.Millisecond // an answer takes about a millisecond
	var timeout interface{ Timeout() bool }
	if got, err := from.askWithin(silence, network, addr); !errors.As(err, &timeout) || !timeout.Timeout() {
		c.Errorf("%s -> %s %s: %v, %v, want no answer at all", from.name, network, addr, got, err)
	}
}
