// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/muster-project/muster/proxier"
)

// The Services and slices asked for: the API server filters, so that objects
// for others never travel.
const (
	servicesWithAddress = "spec.clusterIP!=" + corev1.ClusterIPNone
	servicesOfOurs      = "!service.kubernetes.io/service-proxy-name"
	slicesOfOurs        = "!" + corev1.IsHeadlessService + ",!service.kubernetes.io/service-proxy-name"
)

// follower tells an Inbox what the API server says.
type follower struct {
	client    kubernetes.Interface
	inbox     *proxier.Inbox
	node      string
	nodeAddrs []netip.Addr // known beforehand; else the Node's
	onNode    func(*corev1.Node)
}

// run follows the API until ctx ends. A server that cannot be reached is
// tried again by the informers; what was learnt stays in force meanwhile.
func (f *follower) run(ctx context.Context) error {
	services := f.factory(servicesOfOurs, servicesWithAddress)
	slices := f.factory(slicesOfOurs, "")
	nodes := f.factory("", "metadata.name="+f.node)
	cidrs := f.factory("", "")

	var synced []cache.InformerSynced
	var faults []error
	add := func(s cache.InformerSynced, err error) {
		synced = append(synced, s)
		faults = append(faults, err)
	}
	add(follow(services.Core().V1().Services().Informer(), f.service, func(s *corev1.Service) { f.inbox.NoService(nameOf(s)) }))
	add(follow(slices.Discovery().V1().EndpointSlices().Informer(), f.slice, func(s *discoveryv1.EndpointSlice) { f.inbox.NoSlice(nameOf(s)) }))
	add(follow(nodes.Core().V1().Nodes().Informer(), f.setNode, f.noNode))
	add(follow(cidrs.Networking().V1().ServiceCIDRs().Informer(), f.serviceCIDR, func(c *networkingv1.ServiceCIDR) { f.inbox.ServiceCIDR(c.Name, nil) }))
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("follow the API: %w", err)
	}
	for _, factory := range []informers.SharedInformerFactory{services, slices, nodes, cidrs} {
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		f.inbox.Synced()
	}
	<-ctx.Done()
	return nil
}

// factory makes informers for one selection. Nothing is ever relisted on a
// timer: the proxier verifies the kernel, and watches lose nothing.
func (f *follower) factory(labels, fields string) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(f.client, 0,
		informers.WithTransform(trim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector, o.FieldSelector = labels, fields }))
}

// trim drops what is most of an object and never read.
func trim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
		if _, slice := obj.(*discoveryv1.EndpointSlice); !slice {
			m.SetAnnotations(used(m.GetAnnotations()))
		}
	}
	return obj, nil
}

// used are the annotations of Services that the proxier reads.
func used(all map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range all {
		if key != corev1.AnnotationLoadBalancerSourceRangesKey && !strings.HasPrefix(key, proxier.AnnotationPrefix) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = value
	}
	return kept
}

// follow calls set for each object that is new or changed and gone for each
// that is deleted.
func follow[T metav1.Object](informer cache.SharedIndexInformer, set, gone func(T)) (cache.InformerSynced, error) {
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { with(obj, set) },
		UpdateFunc: func(old, obj any) {
			if o, ok := old.(T); !ok || o.GetResourceVersion() == "" || !sameVersion(o, obj) {
				with(obj, set)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			with(obj, gone)
		},
	})
	if err != nil {
		return func() bool { return false }, err
	}
	return registration.HasSynced, nil
}

func with[T any](obj any, do func(T)) {
	if o, ok := obj.(T); ok {
		do(o)
	}
}

func sameVersion(old metav1.Object, obj any) bool {
	now, ok := obj.(metav1.Object)
	return ok && old.GetResourceVersion() == now.GetResourceVersion()
}

func nameOf(o metav1.Object) proxier.Name {
	return proxier.Name{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (f *follower) service(in *corev1.Service) {
	if s, ok := proxier.ParseService(in); ok {
		f.inbox.Service(s)
	} else {
		f.inbox.NoService(nameOf(in))
	}
}

func (f *follower) slice(in *discoveryv1.EndpointSlice) {
	if s, ok := proxier.ParseSlice(in); ok {
		f.inbox.Slice(s)
	} else {
		f.inbox.NoSlice(nameOf(in))
	}
}

func (f *follower) serviceCIDR(in *networkingv1.ServiceCIDR) {
	prefixes := []netip.Prefix{}
	for _, text := range in.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			prefixes = append(prefixes, p.Masked())
		}
	}
	f.inbox.ServiceCIDR(in.Name, prefixes)
}

func (f *follower) noNode(in *corev1.Node) {
	if in.Name == f.node {
		f.onNode(nil)
	}
}

func (f *follower) setNode(in *corev1.Node) {
	if in.Name != f.node {
		return
	}
	n := proxier.Node{Zone: in.Labels[corev1.LabelTopologyZone], Addrs: f.nodeAddrs, PodCIDRs: podCIDRs(in)}
	if len(n.Addrs) == 0 {
		var all []netip.Addr
		for _, a := range in.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
				all = append(all, addr.Unmap())
			}
		}
		n.Addrs = primary(all)
	}
	f.inbox.Node(n)
	f.onNode(in)
}

// podCIDRs are what the node's pods get their addresses from. Not every
// cluster says it here.
func podCIDRs(in *corev1.Node) []netip.Prefix {
	texts := in.Spec.PodCIDRs
	if len(texts) == 0 {
		texts = []string{in.Spec.PodCIDR}
	}
	var list []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p.Masked())
		}
	}
	return list
}

// primary picks the first address of each family.
func primary(all []netip.Addr) []netip.Addr {
	var picked []netip.Addr
	for _, v4 := range []bool{true, false} {
		for _, a := range all {
			if a.Is4() == v4 {
				picked = append(picked, a)
				break
			}
		}
	}
	return picked
}
