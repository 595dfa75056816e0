// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fakeKubectl is a program that writes down its arguments.
func fakeKubectl(t *testing.T) (program string, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	program = filepath.Join(dir, "kubectl")
	script := "#!/bin/sh\necho \"$*\" >>" + log + "\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, func() []string {
		raw, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		os.Remove(log)
		return slices.DeleteFunc(strings.Split(string(raw), "\n"), func(l string) bool { return l == "" })
	}
}

// apply does to the Service what the API server would do for a patch.
func apply(t *testing.T, s *corev1.Service, call string) {
	t.Helper()
	_, patch, ok := strings.Cut(call, "--patch=")
	if !ok {
		t.Fatalf("%q is no patch", call)
	}
	var c change
	if err := json.NewDecoder(strings.NewReader(patch)).Decode(&c); err != nil {
		t.Fatalf("%q: %v", call, err)
	}
	if c.Metadata != nil {
		s.Finalizers = c.Metadata.Finalizers
	}
	if c.Status != nil {
		if !strings.Contains(call, "--subresource=status") {
			t.Errorf("%q does not write the status", call)
		}
		s.Status.LoadBalancer.Ingress = nil
		for _, i := range c.Status.LoadBalancer.Ingress {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: i.IP})
		}
	}
}

// settle handles events until nothing is patched any more.
func settle(t *testing.T, b *balancer, s *corev1.Service, calls func() []string) {
	t.Helper()
	for range 10 {
		if err := b.handle(t.Context(), serviceEvent{Type: "MODIFIED", Object: *s}); err != nil {
			t.Fatal(err)
		}
		made := calls()
		if len(made) == 0 {
			return
		}
		for _, call := range made {
			apply(t, s, call)
		}
	}
	t.Fatalf("it does not come to rest: %+v", s)
}

func service(name string, typ corev1.ServiceType) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "7", Finalizers: []string{"mine"}},
		Spec:       corev1.ServiceSpec{Type: typ},
	}
}

func TestBalancerGivesAndTakesAddresses(t *testing.T) {
	kubectl, calls := fakeKubectl(t)
	quiet := func(string, ...any) {}
	b := newBalancer(quiet, "none", nil, kubectl)
	one, two, plain := service("one", corev1.ServiceTypeLoadBalancer), service("two", corev1.ServiceTypeLoadBalancer), service("plain", corev1.ServiceTypeNodePort)
	for _, s := range []*corev1.Service{one, two, plain} {
		settle(t, b, s, calls)
	}
	if !shown(one).IsValid() || !shown(two).IsValid() || shown(one) == shown(two) || shown(plain).IsValid() {
		t.Errorf("addresses %s, %s and %s", shown(one), shown(two), shown(plain))
	}
	if !slices.Equal(one.Finalizers, []string{"mine", finalizer}) || len(plain.Finalizers) != 1 {
		t.Errorf("finalizers %q, %q", one.Finalizers, plain.Finalizers)
	}

	// Another run of the program finds what this one gave.
	again := newBalancer(quiet, "none", nil, kubectl)
	before := shown(two)
	settle(t, again, two, calls)
	if shown(two) != before || again.assigned["default/two"].address != before {
		t.Errorf("%s became %s, remembered as %s", before, shown(two), again.assigned["default/two"].address)
	}

	// Its type changes, and the address is free again. There is no route to
	// remove: the namespace does not exist.
	delete(b.assigned, "default/one")
	one.Spec.Type = corev1.ServiceTypeClusterIP
	settle(t, b, one, calls)
	if shown(one).IsValid() || !slices.Equal(one.Finalizers, []string{"mine"}) {
		t.Errorf("still %s, with %q", shown(one), one.Finalizers)
	}
}

func TestBalancerLeavesOthersAlone(t *testing.T) {
	kubectl, calls := fakeKubectl(t)
	b := newBalancer(func(string, ...any) {}, "none", nil, kubectl)
	class := "example.org/other"
	s := service("other", corev1.ServiceTypeLoadBalancer)
	s.Spec.LoadBalancerClass = &class
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	if err := b.handle(t.Context(), serviceEvent{Type: "ADDED", Object: *s}); err != nil {
		t.Fatal(err)
	}
	if made := calls(); len(made) != 0 {
		t.Errorf("it did %q", made)
	}
}

func TestReadEvents(t *testing.T) {
	const text = `{"type":"ADDED","object":{"metadata":{"name":"a"}}}
{"type":"DELETED","object":{"metadata":{"name":"b"}}}
`
	events := make(chan serviceEvent, 2)
	if err := readEvents(t.Context(), strings.NewReader(text), events); err == nil {
		t.Error("the end of the watch is no error")
	}
	if a, b := <-events, <-events; a.Type != "ADDED" || a.Object.Name != "a" || b.Type != "DELETED" || b.Object.Name != "b" {
		t.Errorf("%v, %v", a, b)
	}
}

func TestRouteArgs(t *testing.T) {
	a := netip.MustParseAddr("198.51.100.1")
	for want, nodes := range map[string][]netip.Addr{
		"route replace blackhole 198.51.100.1":                                                     nil,
		"route replace 198.51.100.1 src 203.0.113.1 nexthop via 10.77.0.21":                        workers()[:1],
		"route replace 198.51.100.1 src 203.0.113.1 nexthop via 10.77.0.21 nexthop via 10.77.0.22": workers()[:2],
	} {
		if got := strings.Join(routeArgs(a, nodes), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
