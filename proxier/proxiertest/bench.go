// SPDX-License-Identifier: Apache-2.0

package proxiertest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

// EndpointsPerService is the size of the Services of the benchmarks.
const EndpointsPerService = 5

// Bench measures what a Proxier does on a kernel: from the event in its Inbox
// to the change made, and from nothing to everything. open returns a kernel
// that nobody used before.
func Bench(b *testing.B, open func(testing.TB) proxier.Kernel) {
	for _, services := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("EndpointChange/services=%d", services), func(b *testing.B) {
			w := start(b, open(b), services)
			b.ResetTimer()
			for i := range b.N {
				w.inbox.Slice(benchSlice(i%services, 1+i/services))
				w.wait(b)
			}
			b.StopTimer()
		})
		b.Run(fmt.Sprintf("NewService/services=%d", services), func(b *testing.B) {
			w := start(b, open(b), services)
			b.ResetTimer()
			for i := range b.N {
				w.inbox.Service(benchService(services + i))
				w.wait(b)
			}
			b.StopTimer()
		})
	}
	b.Run("Compare/services=10000", func(b *testing.B) {
		w := start(b, open(b), 10_000)
		b.ResetTimer()
		for range b.N {
			w.inbox.Drift("benchmark")
			w.wait(b)
		}
		b.StopTimer()
	})
	for _, services := range []int{100, 2000, 10_000} {
		b.Run(fmt.Sprintf("ColdStart/services=%d", services), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				k := open(b)
				b.StartTimer()
				start(b, k, services)
			}
		})
	}
}

// working is a Proxier in its loop.
type working struct {
	inbox   *proxier.Inbox
	reports chan proxier.Report
}

func (w working) wait(b *testing.B) {
	b.Helper()
	select {
	case r := <-w.reports:
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	case <-time.After(5 * time.Minute):
		b.Fatal("no pass in five minutes")
	}
}

// start runs a Proxier until all services are in the kernel.
func start(b *testing.B, k proxier.Kernel, services int) working {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	w := working{inbox: proxier.NewInbox(), reports: make(chan proxier.Report, 16)}
	p := &proxier.Proxier{
		Kernel: k,
		Model:  proxier.NewModel(proxier.Config{Node: "node-0"}),
		Inbox:  w.inbox,
		Report: func(r proxier.Report) { w.reports <- r },
		Timing: proxier.Timing{DrainTick: time.Hour, Verify: time.Hour},
	}
	w.inbox.Node(proxier.Node{Addrs: NodeAddrs()})
	w.inbox.ServiceCIDR("kubernetes", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
	for i := range services {
		w.inbox.Service(benchService(i))
		w.inbox.Slice(benchSlice(i, 0))
	}
	w.inbox.Synced()
	var work sync.WaitGroup
	work.Go(func() { p.Run(ctx) })
	b.Cleanup(func() { cancel(); work.Wait() })
	w.wait(b)
	return w
}

func benchName(i int) proxier.Name {
	return proxier.Name{Namespace: "default", Name: fmt.Sprintf("service-%d", i)}
}

func benchService(i int) proxier.Service {
	return proxier.Service{
		Name:       benchName(i),
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(96 + i>>16), byte(i >> 8), byte(i)})},
		Ports:      []proxier.Port{{Name: "http", Proto: proxier.TCP, Port: 80}},
	}
}

// benchSlice has one endpoint more or less with each generation.
func benchSlice(i, generation int) proxier.Slice {
	s := proxier.Slice{Name: benchName(i), Service: benchName(i), Ports: []proxier.SlicePort{{Name: "http", Proto: proxier.TCP, Port: 8080}}}
	for j := range EndpointsPerService + generation%2 {
		n := i*8 + j
		s.Endpoints = append(s.Endpoints, proxier.Endpoint{
			Addr: netip.AddrFrom4([4]byte{172, byte(16 + n>>16), byte(n >> 8), byte(n)}),
			Node: fmt.Sprintf("node-%d", 1+j), Ready: true, Serving: true,
		})
	}
	return s
}
