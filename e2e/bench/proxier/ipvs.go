// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The parts of IPVS's interface that are asked for, from
// include/uapi/linux/ip_vs.h and genetlink.h.
const (
	ipvsFamily  = "IPVS"
	cmdGetDest  = 8
	attrService = 1
	attrDest    = 2

	svcFamily   = 1
	svcProtocol = 2
	svcAddr     = 3
	svcPort     = 4

	destAddr   = 1
	destPort   = 2
	destWeight = 4

	soGetInfo = 64 + 1024 + 64 + 1 // IP_VS_SO_GET_INFO
)

// ipvs looks at the IPVS of this network namespace. Its questions cost the
// same however many virtual servers there are, but for all.
type ipvs struct {
	netlink *netlink.Conn
	family  uint16
	control int // a raw socket, for the old interface
}

func openIPVS() (*ipvs, error) {
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	v := &ipvs{control: control}
	if v.netlink, err = netlink.Dial(unix.NETLINK_GENERIC, nil); err == nil {
		v.family, err = v.findFamily()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find netlink family %s: %w; does this kernel have IPVS?", ipvsFamily, err), v.close())
	}
	return v, nil
}

func (v *ipvs) close() error {
	err := unix.Close(v.control)
	if v.netlink != nil {
		err = errors.Join(err, v.netlink.Close())
	}
	return err
}

// genl is a generic netlink request.
func genl(family uint16, flags netlink.HeaderFlags, command, version byte, attributes []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(family), Flags: netlink.Request | flags},
		Data:   append([]byte{command, version, 0, 0}, attributes...),
	}
}

func (v *ipvs) findFamily() (uint16, error) {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.CTRL_ATTR_FAMILY_NAME, Data: append([]byte(ipvsFamily), 0)}})
	if err != nil {
		return 0, err
	}
	answers, err := v.netlink.Execute(genl(unix.GENL_ID_CTRL, 0, unix.CTRL_CMD_GETFAMILY, 1, attributes))
	if err != nil {
		return 0, err
	}
	for _, m := range answers {
		d, err := netlink.NewAttributeDecoder(m.Data[unix.GENL_HDRLEN:])
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if d.Type() == unix.CTRL_ATTR_FAMILY_ID {
				return d.Uint16(), nil
			}
		}
	}
	return 0, unix.ENOENT
}

// servers counts the virtual servers.
func (v *ipvs) servers() (int, error) {
	// struct ip_vs_getinfo is version, size and num_services, of four bytes
	// each, as struct ip_mreqn is, for which there is a call.
	info, err := unix.GetsockoptIPMreqn(v.control, unix.IPPROTO_IP, soGetInfo)
	if err != nil {
		return 0, fmt.Errorf("count virtual servers: %w", err)
	}
	return int(info.Ifindex), nil
}

// endpoints are the real servers of a ClusterIP that take connections.
func (v *ipvs) endpoints(server netip.AddrPort) ([]netip.AddrPort, error) {
	e := netlink.NewAttributeEncoder()
	e.Nested(attrService, func(e *netlink.AttributeEncoder) error {
		addr, port := make([]byte, 16), server.Port()
		copy(addr, server.Addr().AsSlice())
		e.Uint16(svcFamily, unix.AF_INET)
		e.Uint16(svcProtocol, unix.IPPROTO_TCP)
		e.Bytes(svcAddr, addr)
		e.Bytes(svcPort, []byte{byte(port >> 8), byte(port)})
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return nil, err
	}
	answers, err := v.netlink.Execute(genl(v.family, netlink.Dump, cmdGetDest, 1, attributes))
	if err != nil {
		return nil, fmt.Errorf("list the real servers of %s: %w", server, err)
	}
	var all []netip.AddrPort
	for _, m := range answers {
		if len(m.Data) < unix.GENL_HDRLEN {
			continue
		}
		addr, weight, err := decodeDest(m.Data[unix.GENL_HDRLEN:])
		if err != nil {
			return nil, err
		}
		if weight > 0 {
			all = append(all, addr)
		}
	}
	return all, nil
}

func decodeDest(data []byte) (addr netip.AddrPort, weight uint32, err error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return addr, 0, err
	}
	for d.Next() {
		if d.Type() != attrDest {
			continue
		}
		d.Nested(func(d *netlink.AttributeDecoder) error {
			var ip netip.Addr
			var port uint16
			for d.Next() {
				switch b := d.Bytes(); {
				case d.Type() == destAddr && len(b) >= 4:
					ip = netip.AddrFrom4([4]byte(b))
				case d.Type() == destPort && len(b) == 2:
					port = uint16(b[0])<<8 | uint16(b[1])
				case d.Type() == destWeight:
					weight = d.Uint32()
				}
			}
			addr = netip.AddrPortFrom(ip, port)
			return nil
		})
	}
	return addr, weight, d.Err()
}

// all counts virtual and real servers by reading every one.
func (v *ipvs) all() (servers, destinations int, err error) {
	file, err := os.Open("/proc/thread-self/net/ip_vs")
	if err != nil {
		return 0, 0, err
	}
	defer file.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		switch {
		case n <= 3: // headings
		case strings.HasPrefix(lines.Text(), "  ->"):
			destinations++
		default:
			servers++
		}
	}
	return servers, destinations, lines.Err()
}
