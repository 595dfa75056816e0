// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"net/netip"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/muster-project/muster/proxier"
)

func TestTheNodeMayUseABalancerAddressThatItHas(t *testing.T) {
	balancer := netip.MustParseAddr("1.2.3.4")
	f := proxier.Frontend{Addr: netip.AddrPortFrom(balancer, 80), Proto: proxier.TCP}
	itself := proxier.AllowedElement(f, netip.PrefixFrom(balancer, 32))
	for ranges, want := range map[string]bool{
		netip.PrefixFrom(nodeAddr, 24).Masked().String(): true,
		"203.0.113.0/24": false,
	} {
		s := web("10.96.0.1")
		s.BalancerIPs = []netip.Addr{balancer}
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix(ranges)}
		m := ready(proxier.Config{Node: "node-1"})
		m.SetService(s)
		m.Update()
		if got := m.Want().Has(itself); got != want {
			t.Errorf("ranges %s, node %s: %s allowed %t, want %t", ranges, nodeAddr, itself, got, want)
		}
	}
}

// The API server accepted such addresses for years.
func TestEndpointsMayHaveLeadingZeros(t *testing.T) {
	in := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
		{Addresses: []string{"10.244.00.001"}}, {Addresses: []string{"no address"}}, {},
	}}
	in.Labels = map[string]string{discoveryv1.LabelServiceName: "web"}
	s, ok := proxier.ParseSlice(in)
	if !ok || len(s.Endpoints) != 1 || s.Endpoints[0].Addr != netip.MustParseAddr("10.244.0.1") {
		t.Errorf("parsed %+v, %t; want one endpoint 10.244.0.1", s, ok)
	}
}
