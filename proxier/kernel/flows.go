// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// bypassing matches UDP flows to one of the frontends that were recorded
// before IPVS took it over: their answers are expected from the frontend
// itself.
type bypassing map[proxier.Frontend]struct{}

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (b bypassing) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP || !flow.Forward.DstIP.Equal(flow.Reverse.SrcIP) {
		return false
	}
	addr, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	if !ok {
		return false
	}
	f := proxier.Frontend{Addr: netip.AddrPortFrom(addr.Unmap(), flow.Forward.DstPort), Proto: proxier.UDP}
	_, ok = b[f]
	return ok
}

// forget drops flows that bypass frontends which are new. One walk over the
// table serves all of them.
func forget(frontends []proxier.Frontend) error {
	byFamily := map[netlink.InetFamily]bypassing{}
	for _, f := range frontends {
		family := netlink.InetFamily(family(f.Addr.Addr()))
		if byFamily[family] == nil {
			byFamily[family] = bypassing{}
		}
		byFamily[family][f] = struct{}{}
	}
	for family, filter := range byFamily {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		// Interrupted means that flows came and went meanwhile, which they
		// always do; what existed at the beginning was seen. ENOENT is a flow
		// that ended by itself.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("drop old UDP flows to %d new frontends: %w", len(filter), err)
		}
	}
	return nil
}
