// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// findDevice looks at kube-ipvs0 and at who is bound to its addresses.
func findDevice(r *Remains) error {
	link, err := deviceLink()
	if err != nil || link == nil {
		return err
	}
	r.Device = true
	if r.Addresses, err = addressesOf(link); err != nil {
		return err
	}
	if len(r.Addresses) == 0 {
		return nil
	}
	bound, err := boundAddresses()
	if err != nil {
		return err
	}
	for _, a := range r.Addresses {
		if _, ok := bound[a]; ok {
			r.Bound = append(r.Bound, a)
		}
	}
	return nil
}

// deviceLink is kube-ipvs0, or nil.
func deviceLink() (netlink.Link, error) {
	link, err := netlink.LinkByName(device)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	return link, nil
}

// addressesOf lists a link's addresses, or with nil those of the host. What
// the kernel gives each link by itself is left out.
func addressesOf(link netlink.Link) ([]netip.Addr, error) {
	var list []netlink.Addr
	var err error
	for range 5 {
		if list, err = netlink.AddrList(link, netlink.FAMILY_ALL); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.Unmap().IsLinkLocalUnicast() {
			addrs = append(addrs, addr.Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}

// boundAddresses are those that TCP connections of this host come from. In
// ipvs mode the host's own connections to a Service come from the address of
// the Service.
func boundAddresses() (map[netip.Addr]struct{}, error) {
	bound := map[netip.Addr]struct{}{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil // a kernel without inet_diag cannot tell
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list TCP sockets: %w", err)
		}
		for _, s := range sockets {
			addr, ok := netip.AddrFromSlice(s.ID.Source)
			if ok && s.State == tcpEstablished {
				bound[addr.Unmap()] = struct{}{}
			}
		}
	}
	return bound, nil
}

// tcpEstablished is the kernel's TCP_ESTABLISHED.
const tcpEstablished = 1

// clearDevice removes the addresses of kube-ipvs0 but those to keep, and if
// none is left, and it may go, the device.
func clearDevice(keep func(netip.Addr) bool, keepDevice bool) error {
	link, err := deviceLink()
	if err != nil || link == nil {
		return err
	}
	addrs, err := addressesOf(link)
	if err != nil {
		return err
	}
	if !keepDevice && !slices.ContainsFunc(addrs, keep) {
		// All addresses at once, which matters when there are thousands.
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete %s: %w", device, err)
		}
		return nil
	}
	for _, a := range addrs {
		if keep(a) {
			continue
		}
		addr := &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice())}
		if err := netlink.AddrDel(link, addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", a, device, err)
		}
	}
	return nil
}
