// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-project/muster/proxier"
)

// The list of all virtual and real servers. Read in one go it is ten times
// faster than one netlink dump per virtual server.
const procIPVS = "/proc/thread-self/net/ip_vs"

// realServer is one real server as /proc shows it.
type realServer struct {
	proxier.Dest
	conns int // active and inactive
}

// parseProc reads the format of net/netfilter/ipvs/ip_vs_ctl.c,
// ip_vs_info_seq_show: three lines of headings, then per virtual server one
// line and an indented one for each of its real servers. Numbers of addresses
// and ports are hexadecimal. Services by firewall mark are left out.
func parseProc(r io.Reader) (map[proxier.Frontend][]realServer, error) {
	list := map[proxier.Frontend][]realServer{}
	lines := bufio.NewScanner(r)
	var current proxier.Frontend
	skip := true
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if n <= 3 || len(fields) == 0 {
			continue
		}
		if fields[0] != "->" {
			f, ok, err := parseFrontend(fields)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			current, skip = f, !ok
			if ok {
				list[f] = nil
			}
			continue
		}
		if skip {
			continue
		}
		d, err := parseRealServer(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list[current] = append(list[current], d)
	}
	for f := range list {
		slices.SortFunc(list[f], func(a, b realServer) int { return a.Addr.Compare(b.Addr) })
	}
	return list, lines.Err()
}

// parseFrontend reads `TCP  0A600001:01BB rr`.
func parseFrontend(fields []string) (f proxier.Frontend, ok bool, err error) {
	protocols := map[string]proxier.Protocol{"TCP": proxier.TCP, "UDP": proxier.UDP, "SCTP": proxier.SCTP}
	proto, ok := protocols[fields[0]]
	if !ok {
		return f, false, nil
	}
	if len(fields) < 2 {
		return f, false, fmt.Errorf("a virtual server without an address")
	}
	addr, err := parseHexAddrPort(fields[1])
	return proxier.Frontend{Addr: addr, Proto: proto}, err == nil, err
}

// parseRealServer reads `-> 0AF40002:1F90 Masq 1 0 3`.
func parseRealServer(fields []string) (realServer, error) {
	if len(fields) < 6 {
		return realServer{}, fmt.Errorf("a real server with %d fields, want 6", len(fields))
	}
	addr, err := parseHexAddrPort(fields[1])
	if err != nil {
		return realServer{}, err
	}
	var numbers [3]int
	for i, text := range fields[3:6] {
		if numbers[i], err = strconv.Atoi(text); err != nil {
			return realServer{}, fmt.Errorf("a real server's number: %w", err)
		}
	}
	return realServer{Dest: proxier.Dest{Addr: addr, Weight: uint32(numbers[0])}, conns: numbers[1] + numbers[2]}, nil
}

// parseHexAddrPort reads `0A600001:01BB` and `[2001:0db8:...:0001]:01BB`.
func parseHexAddrPort(text string) (netip.AddrPort, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return netip.AddrPort{}, fmt.Errorf("%q has no port", text)
	}
	port, err := strconv.ParseUint(text[colon+1:], 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port of %q: %w", text, err)
	}
	host := text[:colon]
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return netip.AddrPortFrom(addr, uint16(port)), err
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of eight hexadecimal digits", host)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw)), uint16(port)), nil
}
