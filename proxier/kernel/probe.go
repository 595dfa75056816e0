// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// soGetInfo is IP_VS_SO_GET_INFO of include/uapi/linux/ip_vs.h, the one place
// where the kernel tells how many virtual servers there are without listing
// them. It counts those of IPv4 only.
const soGetInfo = 64 + 1024 + 64 + 1

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
	list, err := v.dests(f)
	for _, d := range list {
		s.Dests = append(s.Dests, d.Dest)
	}
	return s, there, err
}
