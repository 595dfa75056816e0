// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// More of include/uapi/linux/ip_vs.h. IP_VS_SO_GET_INFO is the one place where
// the kernel tells how many virtual servers there are without listing them. It
// counts those of IPv4 only.
const (
	cmdGetDest = 8
	soGetInfo  = 64 + 1024 + 64 + 1
)

// Probe implements [proxier.Kernel].
func (k *Kernel) Probe(ctx context.Context, frontends []proxier.Frontend) (proxier.Probe, error) {
	out := proxier.Probe{Servers: map[proxier.Frontend]proxier.Server{}}
	if err := ctx.Err(); err != nil {
		return out, err
	}
	var err error
	if out.Count, err = k.ipvs.count(); err != nil {
		return out, err
	}
	for _, f := range frontends {
		server, there, err := k.ipvs.server(f)
		if err != nil {
			return out, fmt.Errorf("read virtual server %s: %w", f, err)
		}
		if there {
			out.Servers[f] = server
		}
	}
	return out, nil
}

// count is the number of IPv4 virtual servers, those by firewall mark
// included; -1 where this kernel does not tell.
func (v *ipvs) count() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket to count virtual servers: %w", err)
	}
	defer unix.Close(fd)
	// struct ip_vs_getinfo has the size of this struct, and the number in the
	// same place.
	info, err := unix.GetsockoptIPMreqn(fd, unix.IPPROTO_IP, soGetInfo)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count virtual servers: %w", err)
	}
	return int(info.Ifindex), nil
}

// server reads one virtual server with its real servers.
func (v *ipvs) server(f proxier.Frontend) (s proxier.Server, there bool, err error) {
	b := v.batch()
	at := b.begin(cmdGetService, 0)
	encodeService(b, f, proxier.Options{}, false)
	b.end(at)
	err = v.exchange(b, func(_ uint32, errno unix.Errno) error { return errno }, func(body []byte) error {
		_, o, ok, err := decodeService(body)
		s.Options, there = o, ok
		return err
	})
	if errors.Is(err, unix.ESRCH) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	s.Dests, err = v.dests(f)
	return s, there, err
}

// dests lists the real servers of one virtual server.
func (v *ipvs) dests(f proxier.Frontend) ([]proxier.Dest, error) {
	var list []proxier.Dest
	err := v.dumpAbout(cmdGetDest, func(b *batch) { encodeService(b, f, proxier.Options{}, false) },
		func() { list = nil },
		func(body []byte) error {
			d, err := decodeDest(body, f.Addr.Addr().Is4())
			list = append(list, d)
			return err
		})
	slices.SortFunc(list, func(a, b proxier.Dest) int { return a.Addr.Compare(b.Addr) })
	return list, err
}

// decodeDest reads one entry of the list of real servers.
func decodeDest(body []byte, v4 bool) (proxier.Dest, error) {
	outer, err := parseAttrs(body)
	if err != nil {
		return proxier.Dest{}, err
	}
	in, err := parseAttrs(outer[attrDest])
	if err != nil {
		return proxier.Dest{}, err
	}
	for _, want := range []struct {
		kind uint16
		size int
	}{{destAddr, 16}, {destPort, 2}, {destWeight, 4}} {
		if len(in[want.kind]) < want.size {
			return proxier.Dest{}, fmt.Errorf("IPVS real server: attribute %d has %d bytes, want %d", want.kind, len(in[want.kind]), want.size)
		}
	}
	addr := netip.AddrFrom16([16]byte(in[destAddr]))
	if v4 {
		addr = netip.AddrFrom4([4]byte(in[destAddr]))
	}
	return proxier.Dest{
		Addr:   netip.AddrPortFrom(addr, binary.BigEndian.Uint16(in[destPort])),
		Weight: binary.NativeEndian.Uint32(in[destWeight]),
	}, nil
}
