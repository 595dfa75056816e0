// SPDX-License-Identifier: Apache-2.0

// Package proxy is upstream's: this file is compiled into it, in the place of
// the functions of the same names.
package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"

	muster "github.com/muster-project/muster/proxier"
)

// CategorizeEndpoints asks muster's model. Upstream's test compares the result
// with its table.
func CategorizeEndpoints(endpoints []Endpoint, port ServicePort, nodeName string, labels map[string]string) (cluster, local, all []Endpoint, any bool) {
	if nodeName == "" {
		nodeName = "here" // upstream's table says of each endpoint whether it is local
	}
	m := muster.NewModel(muster.Config{Node: nodeName})
	m.SetNode(muster.Node{Zone: labels[v1.LabelTopologyZone], Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	s := musterService(port)
	m.SetService(s)
	for i, e := range endpoints {
		m.SetSlice(musterSlice(s.Name, i, e, nodeName))
	}
	m.Update()

	seen := view{endpoints: endpoints, state: m.Want()}
	clusterIP := muster.Frontend{Addr: netip.AddrPortFrom(s.ClusterIPs[0], s.Ports[0].Port), Proto: muster.TCP}
	nodePort := muster.Frontend{Addr: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), s.Ports[0].NodePort), Proto: muster.TCP}
	for f, localPolicy := range map[muster.Frontend]bool{clusterIP: s.InternalLocal, nodePort: s.ExternalLocal} {
		if localPolicy {
			local = append(local, seen.of(f)...)
		} else {
			cluster = append(cluster, seen.of(f)...)
		}
		any = any || seen.drops(f)
	}
	cluster = append(cluster, seen.split(nodePort)...)
	cluster, local = unique(cluster), unique(local)
	all = unique(slices.Concat(cluster, local))
	return cluster, local, all, any || len(all) > 0
}

func musterService(port ServicePort) muster.Service {
	s := muster.Service{
		Name:          muster.Name{Namespace: "ns", Name: "service"},
		ClusterIPs:    []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports:         []muster.Port{{Proto: muster.TCP, Port: 80}},
		InternalLocal: port.InternalPolicyLocal(),
		ExternalLocal: port.ExternalPolicyLocal(),
	}
	if port.ExternallyAccessible() {
		s.Ports[0].NodePort = 30080
	}
	return s
}

func musterSlice(service muster.Name, i int, e Endpoint, here string) muster.Slice {
	addr := netip.MustParseAddrPort(e.String())
	node := "elsewhere"
	if e.IsLocal() {
		node = here
	}
	return muster.Slice{
		Name:    muster.Name{Namespace: "ns", Name: fmt.Sprint("slice-", i)},
		Service: service,
		Ports:   []muster.SlicePort{{Proto: muster.TCP, Port: addr.Port()}},
		Endpoints: []muster.Endpoint{{
			Addr: addr.Addr(), Node: node, Ready: e.IsReady(), Serving: e.IsServing(), Terminating: e.IsTerminating(),
			ForZones: e.ZoneHints().UnsortedList(), ForNodes: e.NodeHints().UnsortedList(),
		}},
	}
}

// view finds upstream's endpoints behind muster's virtual servers.
type view struct {
	endpoints []Endpoint
	state     muster.State
}

func (v view) of(f muster.Frontend) []Endpoint {
	var list []Endpoint
	for _, d := range v.state.Servers[f].Dests {
		i := slices.IndexFunc(v.endpoints, func(e Endpoint) bool { return e.String() == d.Addr.String() })
		list = append(list, v.endpoints[i])
	}
	return list
}

func (v view) drops(f muster.Frontend) bool {
	return v.state.Has(muster.FrontendElement(muster.SetDrop, f))
}

// split are the endpoints for clients of f inside the cluster, where they are
// not those for everybody.
func (v view) split(f muster.Frontend) []Endpoint {
	var list []Endpoint
	for e := range v.state.Elements {
		if e.Set == muster.SetSplit && e.Frontend() == f {
			list = append(list, v.of(muster.Frontend{Addr: e.Target(), Proto: f.Proto})...)
		}
	}
	return list
}

func unique(list []Endpoint) []Endpoint {
	var kept []Endpoint
	for _, e := range list {
		if !slices.Contains(kept, e) {
			kept = append(kept, e)
		}
	}
	return kept
}
