// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Name is the namespace and name of an object.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Service is what the proxier needs to know of a Kubernetes Service.
type Service struct {
	Name          Name
	Created       time.Time // the older of two Services with one address gets it
	ClusterIPs    []netip.Addr
	Ports         []Port
	InternalLocal bool          // internalTrafficPolicy: Local
	ExternalLocal bool          // externalTrafficPolicy: Local, on a Service that has node ports
	Affinity      time.Duration // of ClientIP affinity; 0 is none
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
	}
	for _, text := range clusterIPs(in) {
		if a, err := netip.ParseAddr(text); err == nil {
			s.ClusterIPs = append(s.ClusterIPs, a.Unmap())
		}
	}
	for _, p := range in.Spec.Ports {
		if proto, ok := parseProtocol(p.Protocol); ok {
			s.Ports = append(s.Ports, Port{Name: p.Name, Proto: proto, Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
		}
	}
	return s, len(s.ClusterIPs) > 0
}

// The well-known label that hands a Service to another proxy (KEP 2447).
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

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
	if len(in.Addresses) == 0 {
		return Endpoint{}, false
	}
	addr, err := netip.ParseAddr(in.Addresses[0])
	if err != nil {
		return Endpoint{}, false
	}
	e := Endpoint{
		Addr:        addr.Unmap(),
		Ready:       in.Conditions.Ready == nil || *in.Conditions.Ready,
		Serving:     in.Conditions.Serving == nil || *in.Conditions.Serving,
		Terminating: in.Conditions.Terminating != nil && *in.Conditions.Terminating,
	}
	if in.NodeName != nil {
		e.Node = *in.NodeName
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
