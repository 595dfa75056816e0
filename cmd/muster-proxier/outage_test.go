// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// server is what all kinds of one API server share: whether it is there, and
// whether it still knows what happened while it was not.
type server struct {
	mu      sync.Mutex
	away    bool
	forgets bool // watches from before an outage cannot go on
	age     int  // outages so far
	watches []watch.Interface
}

// leave cuts all connections.
func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = true
	s.age++
	for _, w := range s.watches {
		w.Stop()
	}
	s.watches = nil
}

func (s *server) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = false
}

// kind is one kind of objects of a server that may be away.
type kind struct {
	source
	server *server

	listed int // the server's age at the last list
}

func (k *kind) List(o metav1.ListOptions) (runtime.Object, error) {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	if k.server.away {
		return nil, fmt.Errorf("list: %w", syscall.ECONNREFUSED)
	}
	k.listed = k.server.age
	return k.source.List(o)
}

func (k *kind) Watch(o metav1.ListOptions) (watch.Interface, error) {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	switch {
	case k.server.away:
		return nil, fmt.Errorf("watch: %w", syscall.ECONNREFUSED)
	case k.server.forgets && k.listed != k.server.age:
		return nil, apierrors.NewResourceExpired("too old resource version")
	}
	w, err := k.source.Watch(o)
	if err == nil {
		k.server.watches = append(k.server.watches, w)
	}
	return w, err
}

// TestAPIServerAway: while it is, what was learnt stays in force, whatever
// changes; when it is back, everything is caught up with, deletions too.
func TestAPIServerAway(t *testing.T) {
	for _, c := range []struct {
		name    string
		away    time.Duration
		forgets bool
	}{
		{"a blink", 50 * time.Millisecond, false},
		{"five minutes", 5 * time.Minute, false},
		{"an hour, its history forgotten", time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testAway(t, &server{forgets: c.forgets}, c.away) })
		})
	}
}

func testAway(t *testing.T, s *server, away time.Duration) {
	cluster := newCluster(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w-1"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}})
	for i := range 3 {
		cluster.services.Add(numbered(i))
		cluster.slices.Add(numberedSlice(i, 1))
	}
	kernel := &proxiertest.Kernel{}
	follow(t, cluster, s, kernel)
	served := func(when string, want string) {
		t.Helper()
		synctest.Wait()
		got := ""
		for i := range 5 {
			f := proxier.Frontend{Addr: netip.AddrPortFrom(clusterIP(i), 80), Proto: proxier.TCP}
			if server, there := kernel.State().Servers[f]; there {
				got += fmt.Sprintf("%d:%d ", i, len(server.Dests))
			}
		}
		if got != want {
			t.Errorf("%s: Services and their real servers %q, want %q", when, got, want)
		}
	}
	time.Sleep(time.Second)
	served("at first", "0:1 1:1 2:1 ")
	for round := range 3 {
		s.leave()
		cluster.services.Delete(numbered(0))
		cluster.slices.Delete(numberedSlice(0, 1))
		cluster.slices.Modify(numberedSlice(1, 2))
		cluster.services.Add(numbered(3))
		cluster.slices.Add(numberedSlice(3, 3))
		time.Sleep(away)
		served(fmt.Sprint("away, round ", round), "0:1 1:1 2:1 ")
		s.comeBack()
		time.Sleep(time.Minute)
		served(fmt.Sprint("back, round ", round), "1:2 2:1 3:3 ")

		cluster.services.Add(numbered(0))
		cluster.slices.Add(numberedSlice(0, 1))
		cluster.slices.Modify(numberedSlice(1, 1))
		cluster.services.Delete(numbered(3))
		cluster.slices.Delete(numberedSlice(3, 3))
		// The real server that is gone drains first.
		time.Sleep(time.Minute)
		served(fmt.Sprint("after round ", round), "0:1 1:1 2:1 ")
	}
}

// follow runs a proxier for w-1 until the test ends.
func follow(t *testing.T, c cluster, s *server, kernel *proxiertest.Kernel) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &proxier.Proxier{Kernel: kernel, Model: proxier.NewModel(proxier.Config{Node: "w-1"}), Inbox: proxier.NewInbox()}
	f := follower{inbox: p.Inbox, node: "w-1", onNode: func(*corev1.Node) {}, api: &api{
		services: &kind{source: c.services, server: s}, slices: &kind{source: c.slices, server: s},
		nodes: &kind{source: c.nodes, server: s}, cidrs: &kind{source: c.cidrs, server: s},
	}}
	var work sync.WaitGroup
	work.Go(func() { p.Run(ctx) })
	work.Go(func() { f.run(ctx) })
	t.Cleanup(func() {
		cancel()
		s.leave()
		work.Wait()
		for _, from := range []source{c.services, c.slices, c.nodes, c.cidrs} {
			from.Shutdown()
		}
	})
}

func clusterIP(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + i)}) }

func numbered(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)},
		Spec: corev1.ServiceSpec{ClusterIP: clusterIP(i).String(), ClusterIPs: []string{clusterIP(i).String()},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}},
	}
}

// numberedSlice has n endpoints.
func numberedSlice(i, n int) *discoveryv1.EndpointSlice {
	name, port, proto := "http", int32(8080), corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i),
			Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprint("s", i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
	}
	for j := range n {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", i, j+1)}})
	}
	return s
}
