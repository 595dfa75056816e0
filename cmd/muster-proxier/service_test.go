// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// notes is a notifier that counts.
type notes struct{ readies, beats atomic.Int32 }

func (n *notes) ready()                   { n.readies.Add(1) }
func (n *notes) alive()                   { n.beats.Add(1) }
func (n *notes) heartbeat() time.Duration { return 10 * time.Millisecond }

// running starts the service on a cluster with the given objects.
func running(t *testing.T, objects ...runtime.Object) (*fake.Clientset, *proxiertest.Kernel, *notes) {
	t.Helper()
	client, k, n := fake.NewSimpleClientset(objects...), &proxiertest.Kernel{}, &notes{}
	s := service{
		config: config{Config: proxier.Config{Node: "w-1"}, healthz: "127.0.0.1:0", metrics: "127.0.0.1:0", syncPeriod: time.Minute},
		client: client, kernel: k, notify: n, log: slog.New(slog.DiscardHandler),
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
	return client, k, n
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
	client, k, n := running(t, objects()...)
	holds(t, k, served)

	slices := client.DiscoveryV1().EndpointSlices("default")
	slice, err := slices.Get(t.Context(), "web-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.0.3"}})
	slice.ResourceVersion = "2"
	if _, err := slices.Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds(t, k, strings.ReplaceAll(served, "=1", "=1 10.244.0.3:8080=1"))

	if err := client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	holds(t, k, "")
	for before := n.beats.Load(); n.beats.Load() == before; {
		time.Sleep(time.Millisecond)
	}
}

func TestNothingWithoutTheNodesAddress(t *testing.T) {
	all := objects()
	client, k, n := running(t, all[1:]...)
	for n.beats.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	holds(t, k, "")
	if n.readies.Load() != 0 {
		t.Error("ready was told before anything was served")
	}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), all[0].(*corev1.Node), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds(t, k, served)
	for before := n.beats.Load(); n.beats.Load() < before+2; {
		time.Sleep(time.Millisecond) // the report of the pass comes after its changes
	}
	if n.readies.Load() != 1 {
		t.Errorf("ready was told %d times, want once", n.readies.Load())
	}
}
