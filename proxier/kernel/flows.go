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

// stale matches UDP flows that go on where they went before: those whose
// answers come from the frontend itself, past IPVS, and those whose answers
// come from a real server that is gone.
type stale map[proxier.Flows]struct{}

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	from, ok2 := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	if !ok || !ok2 {
		return false
	}
	f := proxier.Frontend{Addr: to, Proto: proxier.UDP}
	if to == from {
		_, ok = s[proxier.Flows{Frontend: f}]
		return ok
	}
	// A flow that was led elsewhere first still has the destination that its
	// client knows.
	_, ok = s[proxier.Flows{Backend: from}]
	return ok
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}

// forget drops stale flows. One walk over the table serves all of them.
func forget(flows []proxier.Flows) error {
	byFamily := map[netlink.InetFamily]stale{}
	for _, f := range flows {
		family := netlink.InetFamily(family(f.Frontend.Addr.Addr()))
		if byFamily[family] == nil {
			byFamily[family] = stale{}
		}
		if f.Backend.IsValid() {
			f.Frontend = proxier.Frontend{}
		}
		byFamily[family][f] = struct{}{}
	}
	for family, filter := range byFamily {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		// Interrupted means that flows came and went meanwhile, which they
		// always do; what existed at the beginning was seen. ENOENT is a flow
		// that ended by itself.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("drop stale UDP flows to %d frontends: %w", len(filter), err)
		}
	}
	return nil
}
