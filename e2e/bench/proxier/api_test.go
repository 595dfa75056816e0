// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func connected(t *testing.T, c cluster) (*api, kubernetes.Interface) {
	t.Helper()
	a, err := newAPI(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}})
	if err != nil {
		t.Fatal(err)
	}
	return a, client
}

func TestInformersFollowTheAPI(t *testing.T) {
	c := cluster{services: 7, created: time.Unix(1_800_000_000, 0)}
	a, client := connected(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	factory := informers.NewSharedInformerFactory(client, 0)
	slices := factory.Discovery().V1().EndpointSlices()
	services := factory.Core().V1().Services().Informer()
	cidrs := factory.Networking().V1().ServiceCIDRs().Informer()
	nodes := factory.Core().V1().Nodes().Informer()
	synced := slices.Informer()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), synced.HasSynced, services.HasSynced, cidrs.HasSynced, nodes.HasSynced) {
		t.Fatal("the informers did not get everything")
	}
	if got := len(services.GetStore().List()); got != 7 {
		t.Errorf("%d Services, want 7", got)
	}
	if len(nodes.GetStore().List()) != 1 || len(cidrs.GetStore().List()) != 1 {
		t.Error("want one Node and one ServiceCIDR")
	}
	now := podAddr(3, 0, 1)
	if err := a.setEndpoints(c, 3, []netip.Addr{now}); err != nil {
		t.Fatal(err)
	}
	_, err := await(ctx, time.Now(), func() (bool, error) {
		s, err := slices.Lister().EndpointSlices(namespace).Get(c.slice(3, nil).Name)
		return err == nil && len(s.Endpoints) == 1 && s.Endpoints[0].Addresses[0] == now.String(), err
	})
	if err != nil {
		t.Errorf("the informer did not hear of the change: %v", err)
	}
}

// What a client without streamed lists does.
func TestListThenWatch(t *testing.T) {
	c := cluster{services: 3, created: time.Unix(1_800_000_000, 0)}
	a, client := connected(t, c)
	api := client.DiscoveryV1().EndpointSlices("")
	list, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 3 || len(list.Items[0].Endpoints) != perService {
		t.Errorf("%d slices", len(list.Items))
	}
	w, err := api.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := a.setEndpoints(c, 1, initial(2)); err != nil {
		t.Fatal(err)
	}
	event := <-w.ResultChan()
	slice, ok := event.Object.(*discoveryv1.EndpointSlice)
	if event.Type != "MODIFIED" || !ok || slice.Endpoints[0].Addresses[0] != podAddr(2, 0, 0).String() {
		t.Errorf("got %s %v", event.Type, event.Object)
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil || node.Status.Addresses[0].Address != nodeAddr().String() {
		t.Errorf("node %v, %v", node, err)
	}
	if _, err := client.CoreV1().Events(namespace).Create(t.Context(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("an event: %v", err)
	}
	if _, err := client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("secrets are served")
	}
}

func TestAddressesAreUnique(t *testing.T) {
	seen := map[netip.Addr]bool{clientAddr(): true, nodeAddr(): true}
	pods, services := netip.MustParsePrefix(podRange), netip.MustParsePrefix(serviceRange)
	for s := range 10_000 {
		if !services.Contains(vip(s)) || seen[vip(s)] {
			t.Fatalf("Service %d has %s", s, vip(s))
		}
		seen[vip(s)] = true
		for e := range perService {
			for generation := range 3 {
				a := podAddr(s, e, generation)
				if !pods.Contains(a) || seen[a] {
					t.Fatalf("endpoint %d of Service %d has %s in generation %d", e, s, a, generation)
				}
				seen[a] = true
			}
		}
	}
}
