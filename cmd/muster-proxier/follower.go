// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/muster-project/muster/proxier"
)

// follower tells an Inbox what the API server says.
type follower struct {
	api       *api
	inbox     *proxier.Inbox
	node      string
	nodeAddrs []netip.Addr // known beforehand; else the Node's
	onNode    func(*corev1.Node)
}

// run follows the API until ctx ends.
func (f *follower) run(ctx context.Context) {
	services := newFeed(f.service, f.inbox.NoService)
	slices := newFeed(f.slice, f.inbox.NoSlice)
	nodes := newFeed(f.setNode, f.noNode)
	cidrs := newFeed(f.serviceCIDR, func(n proxier.Name) { f.inbox.ServiceCIDR(n.Name, nil) })

	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { services.run(ctx, f.api.services, &corev1.Service{}) })
	work.Go(func() { slices.run(ctx, f.api.slices, &discoveryv1.EndpointSlice{}) })
	work.Go(func() { nodes.run(ctx, f.api.nodes, &corev1.Node{}) })
	// Kubernetes has them since 1.33; before, its role for proxies does not
	// name them. Without them every ClusterIP gets a route of its own.
	work.Go(func() { cidrs.runIfServed(ctx, f.api.cidrs, &networkingv1.ServiceCIDR{}, services.synced) })
	for _, synced := range []<-chan struct{}{services.synced, slices.synced, nodes.synced, cidrs.synced} {
		select {
		case <-synced:
		case <-ctx.Done():
			return
		}
	}
	f.inbox.Synced()
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

func (f *follower) noNode(n proxier.Name) {
	if n.Name == f.node {
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
