// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Kernel is the part of a host that no file below step.Host.Root shows.
type Kernel interface {
	// Network lists links, addresses, routes and rules, one a line.
	Network(ctx context.Context) ([]string, error)
	// DeleteLink deletes a link; one that is not there is no error.
	DeleteLink(name string) error
	// DeleteRoutes deletes the routes over gateways into the networks.
	DeleteRoutes(networks []netip.Prefix) error
	// Unmount detaches a mount point; one that is none is no error.
	Unmount(path string) error
}

// Linux is the kernel that this program runs on.
type Linux struct{}

var _ Kernel = Linux{}

// Network asks by netlink.
func (Linux) Network(context.Context) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := make(map[int]string)
	var lines []string
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		lines = append(lines, fmt.Sprintf("link %s %s", l.Attrs().Name, l.Type()))
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		lines = append(lines, fmt.Sprintf("address %s dev %s", a.IPNet, names[a.LinkIndex]))
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		lines = append(lines, fmt.Sprintf("route %s via %s dev %s table %d type %d src %s", r.Dst, ipText(r.Gw), names[r.LinkIndex], r.Table, r.Type, ipText(r.Src)))
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range rules {
		lines = append(lines, fmt.Sprintf("rule %s", r))
	}
	return lines, nil
}

func ipText(ip net.IP) string {
	if ip == nil {
		return "-"
	}
	return ip.String()
}

// DeleteLink deletes a link by name.
func (Linux) DeleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// DeleteRoutes deletes from the main table.
func (Linux) DeleteRoutes(networks []netip.Prefix) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	for _, r := range routes {
		if r.Dst == nil || r.Gw == nil || !within(networks, r.Dst.IP) {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil {
			errs = append(errs, fmt.Errorf("delete route %s: %w", r.Dst, err))
		}
	}
	return errors.Join(errs...)
}

func within(networks []netip.Prefix, ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// Unmount detaches lazily: a container's file system may still be in use by a
// process that is just ending.
func (Linux) Unmount(path string) error {
	err := syscall.Unmount(path, syscall.MNT_DETACH)
	if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}
