// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netutils "k8s.io/utils/net"
)

// Name is the namespace and name of an object.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Service is what the proxier needs to know of a Kubernetes Service.
type Service struct {
	Name          Name
	Created       time.Time // the older of two Services with one address gets it
	ClusterIPs    []netip.Addr
	ExternalIPs   []netip.Addr   // spec.externalIPs
	BalancerIPs   []netip.Addr   // ingress addresses of a load balancer that sends packets to its own address
	SourceRanges  []netip.Prefix // who may use BalancerIPs; none of a family is everybody of that family
	Ports         []Port
	InternalLocal bool          // internalTrafficPolicy: Local
	ExternalLocal bool          // externalTrafficPolicy: Local
	Affinity      time.Duration // of ClientIP affinity; 0 is none
	HealthPort    uint16        // healthCheckNodePort; 0 is none
	Tuning        Tuning
	Faults        []string // what the object says that cannot be done, one sentence each
}

// Port is one port of a Service.
type Port struct {
	Name     string
	Proto    Protocol
	Port     uint16
	NodePort uint16 // 0 is none
}

// ParseService reads the API's form. It reports false for Services that are
// not the proxier's: headless, ExternalName, or another proxy's by label.
func ParseService(in *corev1.Service) (Service, bool) {
	if in.Spec.Type == corev1.ServiceTypeExternalName || in.Spec.ClusterIP == corev1.ClusterIPNone {
		return Service{}, false
	}
	if _, other := in.Labels[labelServiceProxyName]; other {
		return Service{}, false
	}
	s := Service{
		Name:          Name{in.Namespace, in.Name},
		Created:       in.CreationTimestamp.Time,
		InternalLocal: in.Spec.InternalTrafficPolicy != nil && *in.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: in.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Affinity:      affinity(in),
		ClusterIPs:    addresses(clusterIPs(in)),
		ExternalIPs:   addresses(in.Spec.ExternalIPs),
	}
	if in.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.BalancerIPs = addresses(ingressIPs(in))
		s.SourceRanges = s.sourceRanges(in)
	}
	if s.ExternalLocal {
		s.HealthPort = uint16(in.Spec.HealthCheckNodePort)
	}
	s.tune(in.Annotations)
	for _, p := range in.Spec.Ports {
		if proto, ok := parseProtocol(p.Protocol); ok {
			s.Ports = append(s.Ports, Port{Name: p.Name, Proto: proto, Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
		}
	}
	return s, len(s.ClusterIPs) > 0
}

// The well-known label that hands a Service to another proxy (KEP 2447).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// addresses reads what the API server accepted, leading zeros included.
func addresses(texts []string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		if ip := netutils.ParseIPSloppy(text); ip != nil {
			a, _ := netip.AddrFromSlice(ip)
			list = append(list, a.Unmap())
		}
	}
	return list
}

// ingressIPs are those whose packets arrive with that destination. With
// ipMode Proxy they arrive for a NodePort instead, and the nodes' own clients
// have to go the way through the load balancer (KEP 1860).
func ingressIPs(in *corev1.Service) []string {
	var list []string
	for _, i := range in.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			list = append(list, i.IP)
		}
	}
	return list
}

// sourceRanges come from the field or, older, from an annotation.
func (s *Service) sourceRanges(in *corev1.Service) []netip.Prefix {
	texts := in.Spec.LoadBalancerSourceRanges
	if text := strings.TrimSpace(in.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]); len(texts) == 0 && text != "" {
		texts = strings.Split(text, ",")
	}
	var list []netip.Prefix
	for _, text := range texts {
		_, cidr, err := netutils.ParseCIDRSloppy(strings.TrimSpace(text))
		if err != nil {
			s.Faults = append(s.Faults, fmt.Sprintf("loadBalancerSourceRanges: %q is no prefix like 10.0.0.0/8; it is left out", text))
			continue
		}
		bits, _ := cidr.Mask.Size()
		a, _ := netip.AddrFromSlice(cidr.IP)
		list = append(list, netip.PrefixFrom(a.Unmap(), bits))
	}
	if len(texts) > 0 && len(list) == 0 {
		s.BalancerIPs = nil // nobody is meant, and no range means everybody
	}
	return outermost(list)
}

func clusterIPs(in *corev1.Service) []string {
	if len(in.Spec.ClusterIPs) > 0 {
		return in.Spec.ClusterIPs
	}
	return []string{in.Spec.ClusterIP}
}

func affinity(in *corev1.Service) time.Duration {
	if in.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
	if c := in.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func parseProtocol(p corev1.Protocol) (Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

// Slice is what the proxier needs to know of an EndpointSlice.
type Slice struct {
	Name      Name
	Service   Name
	Ports     []SlicePort
	Endpoints []Endpoint
	Triggered time.Time // when the change happened that this slice tells of; zero if unknown
}

// SlicePort is a port that all endpoints of a slice have.
type SlicePort struct {
	Name  string
	Proto Protocol
	Port  uint16
}

// Endpoint is one address of a slice.
type Endpoint struct {
	Addr        netip.Addr
	Node        string
	Zone        string
	Ready       bool // includes publishNotReadyAddresses: the slice's writer decides
	Serving     bool
	Terminating bool
	ForZones    []string
	ForNodes    []string
}

// ParseSlice reads the API's form. It reports false for slices that belong to
// no Service or hold names instead of addresses.
func ParseSlice(in *discoveryv1.EndpointSlice) (Slice, bool) {
	service := in.Labels[discoveryv1.LabelServiceName]
	if service == "" || in.AddressType == discoveryv1.AddressTypeFQDN {
		return Slice{}, false
	}
	s := Slice{Name: Name{in.Namespace, in.Name}, Service: Name{in.Namespace, service}}
	if at, err := time.Parse(time.RFC3339Nano, in.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		s.Triggered = at
	}
	for _, p := range in.Ports {
		if p.Name == nil || p.Port == nil || *p.Port == 0 || p.Protocol == nil {
			continue // "any port" has no meaning for a Service
		}
		if proto, ok := parseProtocol(*p.Protocol); ok {
			s.Ports = append(s.Ports, SlicePort{Name: *p.Name, Proto: proto, Port: uint16(*p.Port)})
		}
	}
	for i := range in.Endpoints {
		if e, ok := parseEndpoint(&in.Endpoints[i]); ok {
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	return s, true
}

// parseEndpoint applies the defaults of the API: unknown is ready and
// serving, and not terminating. Addresses after the first have no meaning
// (they never had one, see the API's field documentation).
func parseEndpoint(in *discoveryv1.Endpoint) (Endpoint, bool) {
	addr := addresses(in.Addresses[:min(1, len(in.Addresses))])
	if len(addr) == 0 {
		return Endpoint{}, false
	}
	e := Endpoint{
		Addr:        addr[0],
		Ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		Serving:     in.Conditions.Serving == nil || *in.Conditions.Serving,
		Terminating: in.Conditions.Terminating != nil && *in.Conditions.Terminating,
	}
	if in.NodeName != nil {
		e.Node = *in.NodeName
	}
	if in.Zone != nil {
		e.Zone = *in.Zone
	}
	if in.Hints != nil {
		for _, z := range in.Hints.ForZones {
			e.ForZones = append(e.ForZones, z.Name)
		}
		for _, n := range in.Hints.ForNodes {
			e.ForNodes = append(e.ForNodes, n.Name)
		}
	}
	return e, true
}
