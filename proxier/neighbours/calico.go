// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// device is the name by which Calico's Felix knows that Services are carried
// by IPVS. Without it Felix looks for packets of Services in hook forward,
// where they do not pass, and policies on them have no effect.
const device = "kube-ipvs0"

// EnsureDevice makes an empty kube-ipvs0, without addresses and down.
func EnsureDevice() error {
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: device}})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("make %s for Calico: %w: this kernel has no dummy devices; load the module with `modprobe dummy`", device, err)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s for Calico: %w", device, err)
	}
	return nil
}

// RemoveDevice removes kube-ipvs0 if it has no addresses: with addresses it is
// kube-proxy's.
func RemoveDevice() error {
	link, err := netlink.LinkByName(device)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", device, err)
	}
	if len(addrs) > 0 || link.Type() != "dummy" {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", device, err)
	}
	return nil
}
