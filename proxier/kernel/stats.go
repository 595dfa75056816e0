// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/muster-project/muster/proxier"
)

// Stats are what a virtual server did since it was made. In is from clients
// to real servers.
type Stats struct {
	Connections           uint64
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
}

// ReadStats reads the counters of every virtual server, foreign ones too. It
// may run beside a [Kernel]: it has a socket of its own. The kernel adds its
// counters up every two seconds.
func ReadStats(ctx context.Context) (map[proxier.Frontend]Stats, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := dialIPVS()
	if err != nil {
		return nil, err
	}
	list, err := v.stats()
	return list, errors.Join(err, v.close())
}

func (v *ipvs) stats() (map[proxier.Frontend]Stats, error) {
	var list map[proxier.Frontend]Stats
	err := v.dump(cmdGetService,
		func() { list = map[proxier.Frontend]Stats{} },
		func(body []byte) error {
			f, s, ok, err := decodeStats(body)
			if ok {
				list[f] = s
			}
			return err
		})
	return list, wrap("read the counters of IPVS", err)
}

// decodeStats reads the counters from one entry of the list of services.
func decodeStats(body []byte) (f proxier.Frontend, s Stats, ok bool, err error) {
	f, _, ok, err = decodeService(body)
	if err != nil || !ok {
		return f, s, false, err
	}
	outer, err := parseAttrs(body)
	if err != nil {
		return f, s, false, err
	}
	service, err := parseAttrs(outer[attrService])
	if err != nil {
		return f, s, false, err
	}
	counters, err := parseAttrs(service[svcStats64])
	if err != nil {
		return f, s, false, err
	}
	for kind, to := range map[uint16]*uint64{
		statsConns: &s.Connections, statsInPackets: &s.PacketsIn, statsOutPackets: &s.PacketsOut,
		statsInBytes: &s.BytesIn, statsOutBytes: &s.BytesOut,
	} {
		if len(counters[kind]) != 8 {
			return f, s, false, fmt.Errorf("IPVS counters of %s: attribute %d has %d bytes, want 8", f, kind, len(counters[kind]))
		}
		*to = binary.NativeEndian.Uint64(counters[kind])
	}
	return f, s, true, nil
}

// RealServer is a real server as IPVS has it now.
type RealServer struct {
	Weight      uint32
	Connections int // that are not forgotten yet, closing ones too
}

// ReadRealServers reads the real servers of some virtual servers; those that
// do not exist are left out. It may run beside a [Kernel].
func ReadRealServers(ctx context.Context, of []proxier.Frontend) (map[proxier.Frontend]map[netip.AddrPort]RealServer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := dialIPVS()
	if err != nil {
		return nil, err
	}
	found, err := v.details(of)
	return found, errors.Join(err, v.close())
}

func (v *ipvs) details(of []proxier.Frontend) (map[proxier.Frontend]map[netip.AddrPort]RealServer, error) {
	found := map[proxier.Frontend]map[netip.AddrPort]RealServer{}
	for _, f := range of {
		_, there, err := v.server(f)
		if err != nil {
			return nil, fmt.Errorf("read the virtual server %s: %w", f, err)
		}
		if !there {
			continue
		}
		list, err := v.dests(f)
		if err != nil {
			return nil, fmt.Errorf("read the real servers of %s: %w", f, err)
		}
		found[f] = map[netip.AddrPort]RealServer{}
		for _, d := range list {
			found[f][d.Addr] = RealServer{d.Weight, d.conns}
		}
	}
	return found, nil
}
