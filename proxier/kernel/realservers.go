// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muster-project/muster/proxier"
)

// More of include/uapi/linux/ip_vs.h.
const (
	cmdGetDest   = 8
	destActive   = 7
	destInactive = 8
)

// realServers lists the real servers of these virtual servers.
//
// The list in /proc is by far the fastest, but not whole: from one read to the
// next it goes on at a position that it counted with the virtual servers of
// all network namespaces and looks up among those of this one, and so steps
// over some (ip_vs_info_seq_next and ip_vs_info_array, Linux 6.12). Those that
// it has not are asked for one by one.
func (v *ipvs) realServers(of map[proxier.Frontend]proxier.Options) (map[proxier.Frontend][]realServer, error) {
	list, err := readProc()
	if err != nil {
		return nil, err
	}
	for f := range of {
		if _, there := list[f]; there {
			continue
		}
		if list[f], err = v.dests(f); err != nil {
			return nil, fmt.Errorf("read the real servers of %s: %w", f, err)
		}
	}
	return list, nil
}

// dests lists the real servers of one virtual server, sorted.
func (v *ipvs) dests(f proxier.Frontend) ([]realServer, error) {
	var list []realServer
	err := v.dumpAbout(cmdGetDest, func(b *batch) { encodeService(b, f, proxier.Options{}, false) },
		func() { list = nil },
		func(body []byte) error {
			d, err := decodeDest(body, f.Addr.Addr().Is4())
			list = append(list, d)
			return err
		})
	slices.SortFunc(list, func(a, b realServer) int { return a.Addr.Compare(b.Addr) })
	return list, err
}

// decodeDest reads one entry of the list of real servers.
func decodeDest(body []byte, v4 bool) (realServer, error) {
	outer, err := parseAttrs(body)
	if err != nil {
		return realServer{}, err
	}
	in, err := parseAttrs(outer[attrDest])
	if err != nil {
		return realServer{}, err
	}
	for _, want := range []struct {
		kind uint16
		size int
	}{{destAddr, 16}, {destPort, 2}, {destWeight, 4}, {destActive, 4}, {destInactive, 4}} {
		if len(in[want.kind]) < want.size {
			return realServer{}, fmt.Errorf("IPVS real server: attribute %d has %d bytes, want %d", want.kind, len(in[want.kind]), want.size)
		}
	}
	addr := netip.AddrFrom16([16]byte(in[destAddr]))
	if v4 {
		addr = netip.AddrFrom4([4]byte(in[destAddr]))
	}
	number := func(kind uint16) uint32 { return binary.NativeEndian.Uint32(in[kind]) }
	return realServer{
		Dest:  proxier.Dest{Addr: netip.AddrPortFrom(addr, binary.BigEndian.Uint16(in[destPort])), Weight: number(destWeight)},
		conns: int(number(destActive)) + int(number(destInactive)),
	}, nil
}
