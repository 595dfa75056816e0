// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fcache "k8s.io/client-go/tools/cache/testing"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// notes is a notifier that counts.
type notes struct{ readies, beats atomic.Int32 }

func (n *notes) ready()                   { n.readies.Add(1) }
func (n *notes) alive()                   { n.beats.Add(1) }
func (n *notes) heartbeat() time.Duration { return 10 * time.Millisecond }

// source is one kind of objects in an API server.
type source struct{ *fcache.FakeControllerSource }

// IsWatchListSemanticsUnSupported tells the reflector to list and then watch.
func (source) IsWatchListSemanticsUnSupported() bool { return true }

// cluster is an API server in memory.
type cluster struct {
	services, slices, nodes, cidrs source
	events                         *written
}

func newCluster(objects ...runtime.Object) cluster {
	kind := func() source { return source{fcache.NewFakeControllerSource()} }
	c := cluster{kind(), kind(), kind(), kind(), &written{got: make(chan *eventsv1.Event, 99)}}
	for _, o := range objects {
		c.of(o).Add(o)
	}
	return c
}

func (c cluster) of(o runtime.Object) source {
	switch o.(type) {
	case *corev1.Service:
		return c.services
	case *discoveryv1.EndpointSlice:
		return c.slices
	case *corev1.Node:
		return c.nodes
	case *networkingv1.ServiceCIDR:
		return c.cidrs
	}
	panic(fmt.Sprintf("no such kind: %T", o))
}

func (c cluster) api() *api {
	return &api{services: c.services, slices: c.slices, nodes: c.nodes, cidrs: c.cidrs, events: c.events}
}

// running starts the service on a cluster with the given objects.
func running(t *testing.T, objects ...runtime.Object) (cluster, *proxiertest.Kernel, *notes) {
	t.Helper()
	c, k, n := newCluster(objects...), &proxiertest.Kernel{}, &notes{}
	s := service{
		config: config{Config: proxier.Config{Node: "w-1"}, healthz: "127.0.0.1:0", metrics: "127.0.0.1:0", syncPeriod: time.Minute},
		api:    c.api(), kernel: k, notify: n, log: slog.New(slog.DiscardHandler),
		host: hostKernel{
			watch: func(ctx context.Context, e kernel.Events) error {
				e.Addresses([]netip.Addr{netip.MustParseAddr("192.0.2.1")})
				<-ctx.Done()
				return nil
			},
			set:   func(kernel.Settings) error { return errors.New("a container") },
			stats: func(context.Context) (map[proxier.Frontend]kernel.Stats, error) { return nil, nil },
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, k, n
}

func objects() []runtime.Object {
	tcp, port, name, node, yes := corev1.ProtocolTCP, int32(8080), "http", "w-1", true
	return []runtime.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w-1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "w-1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: tcp, Port: 80, NodePort: 30080}}}},
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &tcp, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.2"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "headless"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "elsewhere", Labels: map[string]string{"service.kubernetes.io/service-proxy-name": "other"}},
			Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.8", Ports: []corev1.ServicePort{{Port: 80}}}},
	}
}

const served = `server 10.96.0.7:80/tcp rr 10.244.0.2:8080=1
server 192.0.2.1:30080/tcp rr 10.244.0.2:8080=1`

// holds waits until the servers in the kernel are as wanted.
func holds(t *testing.T, k *proxiertest.Kernel, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var servers []string
		for line := range strings.Lines(k.String()) {
			if strings.HasPrefix(line, "server ") {
				servers = append(servers, strings.TrimSpace(line))
			}
		}
		if got = strings.Join(servers, "\n"); got == want {
			return
		}
	}
	t.Fatalf("the kernel serves\n%s\nwant\n%s", got, want)
}

func TestServicesReachTheKernel(t *testing.T) {
	c, k, n := running(t, objects()...)
	holds(t, k, served)

	var slice *discoveryv1.EndpointSlice
	for _, o := range objects() {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			slice = s
		}
	}
	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.0.3"}})
	c.slices.Modify(slice)
	holds(t, k, strings.ReplaceAll(served, "=1", "=1 10.244.0.3:8080=1"))

	c.services.Delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	holds(t, k, "")
	for before := n.beats.Load(); n.beats.Load() == before; {
		time.Sleep(time.Millisecond)
	}
}

func TestNothingWithoutTheNodesAddress(t *testing.T) {
	all := objects()
	c, k, n := running(t, all[1:]...)
	for n.beats.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	holds(t, k, "")
	if n.readies.Load() != 0 {
		t.Error("ready was told before anything was served")
	}
	c.nodes.Add(all[0])
	holds(t, k, served)
	for before := n.beats.Load(); n.beats.Load() < before+2; {
		time.Sleep(time.Millisecond) // the report of the pass comes after its changes
	}
	if n.readies.Load() != 1 {
		t.Errorf("ready was told %d times, want once", n.readies.Load())
	}
}

// TestWhatMakesTheUnitReady: one Service that the kernel refuses must not
// keep it waiting, a pass that failed must.
func TestWhatMakesTheUnitReady(t *testing.T) {
	refused := proxier.Refused{{Change: proxier.ServerChange{Verb: proxier.AddServer}, Err: syscall.ENOENT}}
	for _, c := range []struct {
		what   string
		report proxier.Report
		ready  int32
	}{
		{"all of it", proxier.Report{Full: true}, 1},
		{"a part", proxier.Report{}, 0},
		{"a failure", proxier.Report{Full: true, Err: errors.New("no")}, 0},
		{"a refused Service", proxier.Report{Full: true, Err: refused}, 1},
		{"a refused Service and a failure", proxier.Report{Full: true, Err: errors.Join(refused, errors.New("no"))}, 0},
	} {
		n := &notes{}
		s := service{config: config{syncPeriod: time.Minute}, kernel: &proxiertest.Kernel{}, notify: n, log: slog.New(slog.DiscardHandler)}
		loop := s.assemble().proxier
		for range 2 {
			loop.Report(c.report)
		}
		if got := n.readies.Load(); got != c.ready {
			t.Errorf("%s: ready was told %d times, want %d", c.what, got, c.ready)
		}
	}
}
