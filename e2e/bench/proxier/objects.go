// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The made-up cluster. Only the first Service has endpoints that answer and a
// NodePort; the others are there to be many.
const (
	nodeName     = "node-1"
	otherNode    = "node-2"
	namespace    = "default"
	portName     = "http"
	servicePort  = 80
	endpointPort = 8080
	nodePort     = 30080
	perService   = 5   // endpoints
	localEvery   = 100 // Services, of which one has an endpoint on this node
	podRange     = "10.128.0.0/9"
	serviceRange = "10.64.0.0/12"
)

// cluster is the made-up cluster of one size.
type cluster struct {
	services int
	created  time.Time
}

func nodeAddr() netip.Addr   { return netip.AddrFrom4([4]byte{192, 0, 2, 10}) }
func clientAddr() netip.Addr { return netip.AddrFrom4([4]byte{10, 255, 255, 1}) }

// after is the n-th address after an IPv4 address.
func after(a netip.Addr, n int) netip.Addr {
	from := a.As4()
	var to [4]byte
	binary.BigEndian.PutUint32(to[:], binary.BigEndian.Uint32(from[:])+uint32(n))
	return netip.AddrFrom4(to)
}

// vip is the ClusterIP of a Service.
func vip(service int) netip.Addr {
	return after(netip.AddrFrom4([4]byte{10, 64, 0, 10}), service)
}

// podAddr is an endpoint's address. A generation is what a Service's pods are
// after all of them were replaced once.
func podAddr(service, endpoint, generation int) netip.Addr {
	const mostServices = 1 << 16
	return after(netip.AddrFrom4([4]byte{10, 128, 0, 1}), (generation%8*mostServices+service)*8+endpoint)
}

// initial are the endpoints that a Service begins with.
func initial(service int) []netip.Addr {
	var all []netip.Addr
	for e := range perService {
		all = append(all, podAddr(service, e, 0))
	}
	return all
}

func serviceName(service int) string { return fmt.Sprintf("service-%05d", service) }

// meta is what every object of a real cluster carries too: its size is part
// of what a list costs.
func (c cluster) meta(name, owner string) metav1.ObjectMeta {
	created := metav1.NewTime(c.created)
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("%036x", len(name)+int(c.created.Unix()))), CreationTimestamp: created,
		Labels: map[string]string{"app.kubernetes.io/name": owner, "app.kubernetes.io/part-of": "bench", "app.kubernetes.io/managed-by": "Helm"},
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &created, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},` +
				`"f:app.kubernetes.io/managed-by":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":` +
				`{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`),
		}},
	}
}

func (c cluster) service(i int) *corev1.Service {
	cluster, single := corev1.ServiceInternalTrafficPolicyCluster, corev1.IPFamilyPolicySingleStack
	s := &corev1.Service{ObjectMeta: c.meta(serviceName(i), serviceName(i)), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: vip(i).String(), ClusterIPs: []string{vip(i).String()},
		Selector: map[string]string{"app.kubernetes.io/name": serviceName(i)}, SessionAffinity: corev1.ServiceAffinityNone,
		InternalTrafficPolicy: &cluster, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
		Ports: []corev1.ServicePort{{Name: portName, Protocol: corev1.ProtocolTCP, Port: servicePort}},
	}}
	s.Spec.Ports[0].TargetPort.IntVal = endpointPort
	if i == 0 {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, nodePort
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	return s
}

func (c cluster) slice(i int, endpoints []netip.Addr) *discoveryv1.EndpointSlice {
	name, port, tcp, yes, no := portName, int32(endpointPort), corev1.ProtocolTCP, true, false
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: c.meta(serviceName(i)+"-x7k2p", serviceName(i)), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
	s.Labels[discoveryv1.LabelServiceName] = serviceName(i)
	s.Labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: serviceName(i), UID: s.UID, Controller: &yes, BlockOwnerDeletion: &yes}}
	for e, a := range endpoints {
		node := otherNode
		if i == 0 || e == 0 && i%localEvery == 0 {
			node = nodeName
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a.String()}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-5d8f7c9b6-%05d", serviceName(i), e), UID: s.UID},
		})
	}
	return s
}

func (c cluster) node() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, UID: types.UID(nodeName), CreationTimestamp: metav1.NewTime(c.created)},
		Spec:       corev1.NodeSpec{PodCIDR: podRange, PodCIDRs: []string{podRange}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeAddr().String()}, {Type: corev1.NodeHostName, Address: nodeName}}},
	}
}

func (c cluster) serviceCIDR() *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", CreationTimestamp: metav1.NewTime(c.created)},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{serviceRange}},
	}
}

// frontends counts the virtual servers of the whole cluster: the first
// Service has a NodePort too.
func (c cluster) frontends() int { return c.services + 1 }
