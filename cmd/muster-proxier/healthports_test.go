// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-project/muster/proxier/healthcheck"
)

func TestWhereHealthChecksComeIn(t *testing.T) {
	addrs := func(texts ...string) (list []netip.Addr) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	for _, c := range []struct {
		what       string
		configured []netip.Prefix
		nodePorts  []netip.Addr
		want       []netip.Addr
	}{
		{"primary", nil, addrs("fd00::1", "192.0.2.1"), addrs("192.0.2.1", "fd00::1")},
		{"some", prefixes("192.0.2.0/24", "fd00::/64"), addrs("192.0.2.1", "192.0.2.2", "fd00::1"), addrs("192.0.2.1", "192.0.2.2", "fd00::1")},
		{"all of IPv4", prefixes("0.0.0.0/0", "fd00::/64"), addrs("192.0.2.1", "192.0.2.2", "fd00::1"), addrs("0.0.0.0", "fd00::1")},
		{"all, and there is no IPv6", prefixes("0.0.0.0/0", "::/0"), addrs("192.0.2.1"), addrs("0.0.0.0")},
		{"none yet", prefixes("0.0.0.0/0", "::/0"), nil, nil},
	} {
		h := healthPorts{servers: &healthcheck.Servers{}, configured: c.configured}
		h.on(c.nodePorts)
		if !slices.Equal(h.addrs, c.want) {
			t.Errorf("%s: %v, want %v", c.what, h.addrs, c.want)
		}
	}
}

// TestDeafPortIsTold goes the whole way: from a Service whose health checks
// cannot be answered, as the node's address is not here, to the event.
func TestDeafPortIsTold(t *testing.T) {
	c, k, _ := running(t, objects()...)
	holds(t, k, served)
	c.services.Add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "balanced"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 30999,
		ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}}})
	e := <-c.events.got
	if got := fmt.Sprintf("%s %s/%s", e.Reason, e.Regarding.Namespace, e.Regarding.Name); got != "FailedToStartServiceHealthcheck default/balanced" {
		t.Errorf("told %s: %s", got, e.Note)
	}
}
