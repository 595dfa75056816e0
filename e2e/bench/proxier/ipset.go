// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/ipset/ip_set.h: the version of the
// protocol, and the flag that leaves the members out.
const (
	ipsetProtocol = 7
	listHeader    = 1 << 2
)

// setSize counts the members of an IP set without reading them. A set that is
// not there has none.
func setSize(c *netlink.Conn, name string) (int, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint8(nl.IPSET_ATTR_PROTOCOL, ipsetProtocol)
	e.String(nl.IPSET_ATTR_SETNAME, name)
	e.Bytes(nl.IPSET_ATTR_FLAGS|unix.NLA_F_NET_BYTEORDER, []byte{0, 0, 0, listHeader})
	attributes, err := e.Encode()
	if err != nil {
		return 0, err
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_IPSET<<8 | nl.IPSET_CMD_LIST, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the size of IP set %s: %w", name, err)
	}
	for _, m := range answers {
		if len(m.Data) < 4 {
			continue
		}
		if size, err := decodeSetSize(m.Data[4:]); size > 0 || err != nil {
			return size, err
		}
	}
	return 0, nil
}

func decodeSetSize(data []byte) (size int, err error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return 0, err
	}
	for d.Next() {
		if d.Type() != nl.IPSET_ATTR_DATA {
			continue
		}
		d.Nested(func(d *netlink.AttributeDecoder) error {
			for d.Next() {
				if b := d.Bytes(); d.Type() == nl.IPSET_ATTR_ELEMENTS && len(b) == 4 {
					size = int(binary.BigEndian.Uint32(b))
				}
			}
			return nil
		})
	}
	return size, d.Err()
}
