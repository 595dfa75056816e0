// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

// healthPorts keeps the answers to load balancers as the Model says. It is
// called by the loop only.
type healthPorts struct {
	servers    *healthcheck.Servers
	configured []netip.Prefix // nodePortAddresses

	addrs  []netip.Addr
	checks map[uint16]healthcheck.Check
}

// checked tells all health checks.
func (h *healthPorts) checked(checks map[uint16]proxier.HealthCheck) {
	h.checks = make(map[uint16]healthcheck.Check, len(checks))
	for port, c := range checks {
		h.checks[port] = healthcheck.Check{Service: c.Service, Local: c.Local}
	}
	h.servers.Sync(h.addrs, h.checks)
}

// on tells which addresses serve NodePorts: health checks come in where they
// do. All of a family are asked for with the unspecified one, as kube-proxy
// does: one socket instead of one per interface.
func (h *healthPorts) on(nodePorts []netip.Addr) {
	var addrs []netip.Addr
	for _, unspecified := range [...]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		same := slices.DeleteFunc(slices.Clone(nodePorts), func(a netip.Addr) bool { return a.Is4() != unspecified.Is4() })
		if len(same) > 0 && slices.Contains(h.configured, netip.PrefixFrom(unspecified, 0)) {
			same = []netip.Addr{unspecified}
		}
		addrs = append(addrs, same...)
	}
	if !slices.Equal(addrs, h.addrs) {
		h.addrs = addrs
		h.servers.Sync(h.addrs, h.checks)
	}
}
