// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// routeProtocol marks our routes (RTPROT_*). No routing daemon in iproute2's
// list has this number, and daemons leave foreign protocols alone.
const routeProtocol = 109

// loopback is the first interface of every network namespace.
const loopback = 1

// localRoute is `local PREFIX dev lo src SOURCE table local proto 109`.
func localRoute(prefix netip.Prefix, source netip.Addr) *netlink.Route {
	r := &netlink.Route{
		Dst:       &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Protocol:  routeProtocol,
		LinkIndex: loopback,
		Family:    netlink.FAMILY_V4,
	}
	if prefix.Addr().Is6() {
		r.Family = netlink.FAMILY_V6
		r.Scope = netlink.SCOPE_UNIVERSE // IPv6 routes have no scope
	}
	if source.IsValid() {
		r.Src = source.AsSlice()
	}
	return r
}

// readRoutes returns our routes and their preferred sources.
func readRoutes() (map[netip.Prefix]netip.Addr, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol, Type: unix.RTN_LOCAL}
	mask := uint64(netlink.RT_FILTER_TABLE | netlink.RT_FILTER_PROTOCOL | netlink.RT_FILTER_TYPE)
	var list []netlink.Route
	var err error
	for range 3 {
		list, err = netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, mask)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list local routes: %w", err)
	}
	routes := map[netip.Prefix]netip.Addr{}
	for _, r := range list {
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		if !ok {
			continue
		}
		bits, _ := r.Dst.Mask.Size()
		source, _ := netip.AddrFromSlice(r.Src)
		routes[netip.PrefixFrom(addr.Unmap(), bits)] = source.Unmap()
	}
	return routes, nil
}

func applyRoute(c proxier.RouteChange) error {
	route := localRoute(c.Prefix, c.Source)
	if c.Del {
		return wrap(c.String(), netlink.RouteDel(route))
	}
	err := netlink.RouteReplace(route)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w: is %s an address of this host?", c, err, c.Source)
	}
	return wrap(c.String(), err)
}
