// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// EnvSeeds is how many random clusters a hook tries.
const EnvSeeds = "MUSTER_ORACLE_SEEDS"

// Random makes up Services and EndpointSlices as an API server would accept
// them, on addresses that no two Services share.
type Random struct {
	Rand *rand.Rand
	Node string // where some of the endpoints are

	services [4]*corev1.Service
	slices   [4][3]*discoveryv1.EndpointSlice
}

// Event makes something happen.
func (r *Random) Event() Event {
	for {
		i := r.Rand.IntN(len(r.services))
		switch kind := r.Rand.IntN(10); {
		case kind < 3:
			old := r.services[i]
			r.services[i] = r.service(i)
			return Event{OldService: old, Service: r.services[i]}
		case kind == 3 && r.services[i] != nil:
			old := r.services[i]
			r.services[i] = nil
			return Event{OldService: old}
		case kind > 4:
			j := r.Rand.IntN(len(r.slices[i]))
			old := r.slices[i][j]
			r.slices[i][j] = r.slice(i, j)
			return Event{OldSlice: old, Slice: r.slices[i][j]}
		case kind == 4:
			j := r.Rand.IntN(len(r.slices[i]))
			if old := r.slices[i][j]; old != nil {
				r.slices[i][j] = nil
				return Event{OldSlice: old}
			}
		}
	}
}

func (r *Random) often() bool  { return r.Rand.IntN(4) > 0 }
func (r *Random) seldom() bool { return r.Rand.IntN(4) == 0 }

func serviceName(i int) string { return fmt.Sprint("service-", i) }

func (r *Random) service(i int) *corev1.Service {
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer}
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: serviceName(i)},
		Spec:       corev1.ServiceSpec{Type: types[r.Rand.IntN(len(types))]},
	}
	switch r.Rand.IntN(16) {
	case 0:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "elsewhere.example"
		return s
	case 1:
		s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		return s
	}
	s.Spec.ClusterIPs = [][]string{{ipv4(i)}, {ipv6(i)}, {ipv4(i), ipv6(i)}, {ipv6(i), ipv4(i)}}[r.Rand.IntN(4)]
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	for _, ip := range s.Spec.ClusterIPs {
		family := corev1.IPv4Protocol
		if ip == ipv6(i) {
			family = corev1.IPv6Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	r.ports(i, s)
	if r.Rand.IntN(6) == 0 {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(int32(60 + i))}}
	}
	if r.seldom() {
		s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	}
	r.outside(i, s)
	return s
}

func ipv4(i int) string { return fmt.Sprintf("172.30.0.%d", 40+i) }
func ipv6(i int) string { return fmt.Sprintf("fd00:10:96::%x", 0x40+i) }

// ports are some of a web server's and a name server's.
func (r *Random) ports(i int, s *corev1.Service) {
	for j, p := range []corev1.ServicePort{
		{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80},
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53},
		{Name: "signal", Protocol: corev1.ProtocolSCTP, Port: 53},
	} {
		if j > 0 && !r.seldom() {
			continue
		}
		p.TargetPort = intstr.FromInt32(p.Port + 8000)
		if s.Spec.Type != corev1.ServiceTypeClusterIP && r.often() {
			p.NodePort = int32(30000 + 10*i + j)
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
}

// outside is how clients off the cluster reach s.
func (r *Random) outside(i int, s *corev1.Service) {
	if r.seldom() {
		s.Spec.ExternalIPs = []string{fmt.Sprintf("192.168.99.%d", 11+i), fmt.Sprintf("2001:db8:99::%x", 0x11+i)}
	}
	if (s.Spec.Type != corev1.ServiceTypeClusterIP || len(s.Spec.ExternalIPs) > 0) && r.Rand.IntN(2) == 0 {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	modes := []*corev1.LoadBalancerIPMode{nil, nil, ptr.To(corev1.LoadBalancerIPModeVIP), ptr.To(corev1.LoadBalancerIPModeProxy)}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
		{IP: fmt.Sprintf("1.2.3.%d", 4+i), IPMode: modes[r.Rand.IntN(len(modes))]},
		{IP: fmt.Sprintf("2001:db8:77::%x", 4+i), IPMode: modes[r.Rand.IntN(len(modes))]},
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.Spec.HealthCheckNodePort = int32(31000 + i)
	}
	ranges := [][]string{nil, nil, {"203.0.113.0/25"}, {"192.168.0.0/24", " 10.0.0.0/8"}, {"192.168.0.0/24", "0.0.0.0/0"}, {"2600:5200::/32", "203.0.113.0/25"}}
	s.Spec.LoadBalancerSourceRanges = ranges[r.Rand.IntN(len(ranges))]
}

// slice is one of a Service's three: two for IPv4 and one for IPv6.
func (r *Random) slice(i, j int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprint(serviceName(i), "-", j),
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if j == 2 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	add := func(name string, proto corev1.Protocol, port int32) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &proto, Port: &port})
	}
	add("http", corev1.ProtocolTCP, 8080)
	add("dns", corev1.ProtocolUDP, 8053)
	add("dns-tcp", corev1.ProtocolTCP, 8053)
	if r.often() {
		add("signal", corev1.ProtocolSCTP, 8053)
	}
	hints := r.Rand.IntN(4) // nowhere, on zones, on both, on some
	for range r.Rand.IntN(5) {
		s.Endpoints = append(s.Endpoints, r.endpoint(i, j, hints))
	}
	return s
}

// endpoint is one of six pods. Two slices may name the same pod for a moment,
// and what upstream makes of that is random, except where one of them says
// that it terminates. So the first slice has the even pods in any state, the
// second the odd ones, and each has the other's as terminating only.
func (r *Random) endpoint(i, j, hints int) discoveryv1.Endpoint {
	pod := r.Rand.IntN(6)
	e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.180.%d.%d", i, pod)}}
	if j == 2 {
		e.Addresses[0] = fmt.Sprintf("fd00:10:180::%x:%x", i+1, pod)
	}
	if node := []string{r.Node, "node-2", "node-3", ""}[pod%4]; node != "" {
		e.NodeName = &node
	}
	if pod%2 == j%2 && (j < 2 || pod > 2) {
		e.Conditions = conditions(pod, []int{0, 0, 0, 1, 2, 3}[r.Rand.IntN(6)])
	} else {
		e.Conditions = conditions(pod, 2)
	}
	if hints == 1 || hints == 2 || hints == 3 && r.seldom() {
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: []string{"zone-a", "zone-b"}[pod%2]}}}
		if hints == 2 {
			e.Hints.ForNodes = []discoveryv1.ForNode{{Name: []string{r.Node, "node-2", "node-3"}[pod%3]}}
		}
	}
	return e
}

// conditions are those of a pod that is ready, not ready, terminating, or, as
// only a person would write it, serving without being ready.
func conditions(pod, state int) discoveryv1.EndpointConditions {
	switch state {
	case 0:
		return discoveryv1.EndpointConditions{Ready: ptr.To(true)}
	case 1:
		return discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: ptr.To(false)}
	case 3:
		return discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true)}
	}
	return discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(pod != 5), Terminating: ptr.To(true)}
}
