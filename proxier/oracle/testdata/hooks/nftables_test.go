// SPDX-License-Identifier: Apache-2.0

// Package nftables is upstream's: this file is compiled into it, in the place
// of the functions of the same names.
package nftables

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"

	muster "github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/oracle"
	"github.com/muster-project/muster/proxier/walk"
)

// witness sees what one of upstream's proxiers is told.
type witness struct {
	proxier *Proxier
	cluster oracle.Cluster
}

// witnesses are found by the fake packet filter, because upstream's tests
// hand nothing else to runPacketFlowTests.
var witnesses sync.Map // *knftables.Fake: *witness

func witnessOf(nft knftables.Interface) (*witness, bool) {
	w, ok := witnesses.Load(nft)
	if !ok {
		return nil, false
	}
	return w.(*witness), true
}

func NewFakeProxier(family v1.IPFamily) (*knftables.Fake, *Proxier) {
	nft, p := upstreamNewFakeProxier(family)
	witnesses.Store(knftables.Interface(nft), &witness{proxier: p})
	return nft, p
}

func (proxier *Proxier) OnServiceUpdate(old, service *v1.Service) {
	proxier.witness(oracle.Event{OldService: old.DeepCopy(), Service: service.DeepCopy()})
	proxier.upstreamOnServiceUpdate(old, service)
}

func (proxier *Proxier) OnEndpointSliceAdd(slice *discovery.EndpointSlice) {
	proxier.witness(oracle.Event{Slice: slice.DeepCopy()})
	proxier.upstreamOnEndpointSliceAdd(slice)
}

func (proxier *Proxier) OnEndpointSliceUpdate(old, slice *discovery.EndpointSlice) {
	proxier.witness(oracle.Event{OldSlice: old.DeepCopy(), Slice: slice.DeepCopy()})
	proxier.upstreamOnEndpointSliceUpdate(old, slice)
}

func (proxier *Proxier) OnEndpointSliceDelete(slice *discovery.EndpointSlice) {
	proxier.witness(oracle.Event{OldSlice: slice.DeepCopy()})
	proxier.upstreamOnEndpointSliceDelete(slice)
}

func (proxier *Proxier) witness(e oracle.Event) {
	if w, ok := witnessOf(proxier.nftables); ok {
		w.cluster.Tell(e)
	}
}

// place is the proxier's configuration in muster's words.
func (w *witness) place() oracle.Place {
	p := w.proxier
	place := oracle.Place{
		Config: muster.Config{Node: p.nodeName},
		Node:   muster.Node{Zone: p.topologyLabels[v1.LabelTopologyZone]},
	}
	if a, ok := netip.AddrFromSlice(p.nodeIP); ok {
		place.Node.Addrs = []netip.Addr{a.Unmap()}
	}
	if p.localDetector.IsImplemented() {
		words := p.localDetector.IfLocalNFT() // ip saddr PREFIX
		place.Config.DetectLocal.CIDRs = []netip.Prefix{netip.MustParsePrefix(words[len(words)-1])}
	}
	for text := range strings.SplitSeq(p.serviceCIDRs, ",") {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			place.ServiceCIDRs = append(place.ServiceCIDRs, prefix)
		}
	}
	ips, err := p.nodePortAddresses.GetNodeIPs(p.networkInterfacer)
	if err != nil {
		panic(err)
	}
	for _, ip := range ips {
		a, _ := netip.AddrFromSlice(ip)
		place.LocalAddrs = append(place.LocalAddrs, a.Unmap())
		place.Config.NodePorts = append(place.Config.NodePorts, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
	}
	return place
}

func runPacketFlowTests(t *testing.T, line string, nft *knftables.Fake, nodeIPs []string, testCases []packetFlowTest) {
	w, ok := witnessOf(nft)
	if !ok { // rules written by hand, to test upstream's tracer
		upstreamRunPacketFlowTests(t, line, nft, nodeIPs, testCases)
		return
	}
	state, err := w.cluster.Replay(w.place())
	if err != nil {
		t.Fatal(err)
	}
	host := w.host(nodeIPs)
	for _, tc := range testCases {
		t.Run(tc.name, func(t *testing.T) {
			f := oracle.Flow{
				Test:     t.Name(),
				Source:   netip.MustParseAddr(tc.sourceIP),
				Dest:     netip.AddrPortFrom(netip.MustParseAddr(tc.destIP), uint16(tc.destPort)),
				Proto:    strings.ToLower(string(tc.protocol)),
				Upstream: oracle.UpstreamAnswer(tc.output, tc.masq),
			}
			write(f.Walk(&w.cluster, state, host))
		})
	}
}

func (w *witness) host(nodeIPs []string) walk.Host {
	h := walk.Host{MasqueradeAll: w.proxier.masqueradeAll, DetectLocal: w.place().Config.DetectLocal}
	for _, ip := range nodeIPs {
		h.Addrs = append(h.Addrs, netip.MustParseAddr(ip))
	}
	return h
}

// write appends a flow to the file that the caller of this program reads.
func write(f oracle.Flow) {
	line, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	out, err := os.OpenFile(os.Getenv(oracle.EnvFlows), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer out.Close()
	if _, err := out.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}
