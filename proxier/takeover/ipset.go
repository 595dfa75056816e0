// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// The netlink interfaces of ipset (linux/netfilter/ipset/ip_set.h) and nfacct
// (linux/netfilter/nfnetlink_acct.h).
const (
	ipsetDestroy = 3
	ipsetList    = 7
	ipsetVersion = 6 // the oldest that kernels still take

	ipsetAttrProtocol = 1
	ipsetAttrName     = 2
	ipsetAttrFlags    = 6
	ipsetAttrData     = 7
	ipsetAttrElements = 8
	ipsetAttrPort     = 4 // inside data

	ipsetNamesOnly = 1 << 1
	ipsetNotFound  = unix.ENOENT

	acctGet      = 1
	acctDel      = 3
	acctAttrName = 1

	nlaTypeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
)

// nfnl is a socket for the parts of netfilter that no kept library speaks.
type nfnl struct{ *netlink.Conn }

func dialNFNL() (nfnl, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nfnl{}, fmt.Errorf("open a netlink socket: %w", err)
	}
	return nfnl{c}, nil
}

// do sends one message and returns the attributes of each answer.
func (n nfnl) do(subsystem, command uint16, flags netlink.HeaderFlags, attrs []netlink.Attribute) ([][]netlink.Attribute, error) {
	body, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	answers, err := n.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsystem<<8 | command), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, body...),
	})
	if err != nil {
		return nil, err
	}
	var all [][]netlink.Attribute
	for _, a := range answers {
		if a.Header.Type == netlink.Error || len(a.Data) < 4 {
			continue // an acknowledgement
		}
		list, err := netlink.UnmarshalAttributes(a.Data[4:])
		if err != nil {
			return nil, err
		}
		all = append(all, list)
	}
	return all, nil
}

func (n nfnl) ipset(command uint16, flags netlink.HeaderFlags, attrs ...netlink.Attribute) ([][]netlink.Attribute, error) {
	protocol := netlink.Attribute{Type: ipsetAttrProtocol, Data: []byte{ipsetVersion}}
	return n.do(unix.NFNL_SUBSYS_IPSET, command, flags, append([]netlink.Attribute{protocol}, attrs...))
}

func named(kind uint16, name string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(name), 0)}
}

// noSubsystem is what nfnetlink answers if the kernel has no such part.
func noSubsystem(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// sets lists kube-proxy's ipsets.
func (n nfnl) sets() ([]string, error) {
	flags := netlink.Attribute{Type: ipsetAttrFlags | unix.NLA_F_NET_BYTEORDER, Data: binary.BigEndian.AppendUint32(nil, ipsetNamesOnly)}
	answers, err := n.ipset(ipsetList, netlink.Dump, flags)
	if noSubsystem(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ipsets: %w", err)
	}
	var own []string
	for _, a := range answers {
		if name := text(a, ipsetAttrName); ownSet(name) && !slices.Contains(own, name) {
			own = append(own, name)
		}
	}
	slices.Sort(own)
	return own, nil
}

func text(attrs []netlink.Attribute, kind uint16) string {
	for _, a := range attrs {
		if a.Type&nlaTypeMask == kind && len(a.Data) > 0 {
			return string(a.Data[:len(a.Data)-1]) // without its zero
		}
	}
	return ""
}

// ports reads the ports in a set.
func (n nfnl) ports(set string) ([]uint16, error) {
	answers, err := n.ipset(ipsetList, netlink.Dump, named(ipsetAttrName, set))
	if err != nil {
		return nil, fmt.Errorf("read ipset %s: %w", set, err)
	}
	var ports []uint16
	for _, a := range answers {
		for _, element := range children(a, ipsetAttrElements) {
			inside, err := netlink.UnmarshalAttributes(element.Data)
			if err != nil {
				return nil, fmt.Errorf("read ipset %s: %w", set, err)
			}
			for _, in := range inside {
				if in.Type&nlaTypeMask == ipsetAttrPort && len(in.Data) == 2 {
					ports = append(ports, binary.BigEndian.Uint16(in.Data))
				}
			}
		}
	}
	return ports, nil
}

// children are the data containers inside the attribute of this kind.
func children(attrs []netlink.Attribute, kind uint16) []netlink.Attribute {
	var all []netlink.Attribute
	for _, a := range attrs {
		if a.Type&nlaTypeMask != kind {
			continue
		}
		inside, err := netlink.UnmarshalAttributes(a.Data)
		if err != nil {
			continue
		}
		for _, in := range inside {
			if in.Type&nlaTypeMask == ipsetAttrData {
				all = append(all, in)
			}
		}
	}
	return all
}

// nodePort is a port that kube-proxy served on the host's addresses.
type nodePort struct {
	proto proxier.Protocol
	port  uint16
}

// nodePorts reads the sets that name NodePorts.
func (n nfnl) nodePorts(sets []string) (map[nodePort]struct{}, error) {
	all := map[nodePort]struct{}{}
	for name, proto := range nodePortSets() {
		if !slices.Contains(sets, name) {
			continue
		}
		ports, err := n.ports(name)
		if errors.Is(err, ipsetNotFound) {
			continue // gone since it was listed
		}
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			all[nodePort{proto, p}] = struct{}{}
		}
	}
	return all, nil
}

// destroy removes a set. One that is gone is fine.
func (n nfnl) destroy(set string) error {
	_, err := n.ipset(ipsetDestroy, netlink.Acknowledge, named(ipsetAttrName, set))
	if err != nil && !errors.Is(err, ipsetNotFound) {
		return fmt.Errorf("destroy ipset %s: %w", set, err)
	}
	return nil
}

// counters lists kube-proxy's nfacct objects.
func (n nfnl) counters() ([]string, error) {
	answers, err := n.do(unix.NFNL_SUBSYS_ACCT, acctGet, netlink.Dump, nil)
	if noSubsystem(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nfacct objects: %w", err)
	}
	var own []string
	for _, a := range answers {
		if name := text(a, acctAttrName); slices.Contains(counterNames(), name) {
			own = append(own, name)
		}
	}
	return own, nil
}

func (n nfnl) dropCounter(name string) error {
	_, err := n.do(unix.NFNL_SUBSYS_ACCT, acctDel, netlink.Acknowledge, []netlink.Attribute{named(acctAttrName, name)})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nfacct object %s: %w", name, err)
	}
	return nil
}
