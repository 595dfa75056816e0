// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// External addresses of Services are nobody's on this host: it does not
// answer ARP for them, and it reaches their other ports elsewhere. Packets to
// a frontend on one of them carry markCapture, and a rule
//
//	fwmark 0x1000/0x1000 lookup 109
//
// sends those to a table in which everything is local.
const (
	captureTable    = 109
	capturePriority = 50 // before any policy rule of a CNI plugin that looks at sources
)

func captureRule(family int) *netlink.Rule {
	mask := uint32(markCapture)
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Mark, r.Mask, r.Protocol = family, capturePriority, captureTable, markCapture, &mask, routeProtocol
	return r
}

func captureRoute(v4 bool) *netlink.Route {
	all := netip.MustParsePrefix("::/0")
	if v4 {
		all = netip.MustParsePrefix("0.0.0.0/0")
	}
	r := localRoute(all, netip.Addr{})
	r.Table = captureTable
	return r
}

// prepareCapture makes the rule and the route of both families, where they
// are not there already.
func prepareCapture() error {
	return forFamilies(func(family int) error {
		if err := netlink.RouteReplace(captureRoute(family == netlink.FAMILY_V4)); err != nil {
			return fmt.Errorf("add route local default in table %d: %w", captureTable, err)
		}
		if err := netlink.RuleAdd(captureRule(family)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule fwmark %#x lookup %d: %w", markCapture, captureTable, err)
		}
		return nil
	})
}

// deleteCapture takes both away.
func deleteCapture() error {
	return forFamilies(func(family int) error {
		if err := netlink.RuleDel(captureRule(family)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete rule fwmark %#x lookup %d: %w", markCapture, captureTable, err)
		}
		if err := netlink.RouteDel(captureRoute(family == netlink.FAMILY_V4)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route local default in table %d: %w", captureTable, err)
		}
		return nil
	})
}

// forFamilies leaves IPv6 out on a host that has none.
func forFamilies(do func(family int) error) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := do(family)
		if family == netlink.FAMILY_V6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
