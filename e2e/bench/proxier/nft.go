// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// filter looks at nftables in this network namespace.
type filter struct{ *nftables.Conn }

// readBuffer has room for all elements of the largest set.
const readBuffer = 16 << 20

func openFilter() (filter, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetReadBuffer(readBuffer) }))
	return filter{c}, err
}

// generation counts the transactions so far, at the cost of one message.
func generation(c *netlink.Conn) (uint32, error) {
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for _, m := range answers {
		if len(m.Data) < 4 {
			continue
		}
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if b := d.Bytes(); d.Type() == unix.NFTA_GEN_ID && len(b) == 4 {
				return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), nil
			}
		}
	}
	return 0, errors.New("the kernel's answer has no generation")
}

// gone tells that what was asked for is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || bytes.Contains([]byte(fmt.Sprint(err)), []byte(unix.ENOENT.Error()))
}

// elements are those of a set or map; one that is not there has none.
func (f filter) elements(family nftables.TableFamily, table, set string) ([]nftables.SetElement, error) {
	list, err := f.GetSetElements(&nftables.Set{Table: &nftables.Table{Name: table, Family: family}, Name: set})
	if err != nil && gone(err) {
		return nil, nil
	}
	return list, err
}

// rules are those of a chain; one that is not there has none.
func (f filter) rules(family nftables.TableFamily, table, chain string) ([]*nftables.Rule, error) {
	t := &nftables.Table{Name: table, Family: family}
	list, err := f.GetRules(t, &nftables.Chain{Table: t, Name: chain})
	if err != nil && gone(err) {
		return nil, nil
	}
	return list, err
}

// target is the chain that a map's element leads to.
func target(e nftables.SetElement) string {
	d, err := netlink.NewAttributeDecoder(e.Val)
	if err != nil {
		return ""
	}
	for d.Next() {
		if d.Type() == unix.NFTA_VERDICT_CHAIN {
			return d.String()
		}
	}
	return ""
}

// mapped are the values of the maps that a rule looks into.
func (f filter) mapped(r *nftables.Rule) ([]string, error) {
	var all []string
	for _, e := range r.Exprs {
		lookup, ok := e.(*expr.Lookup)
		if !ok {
			continue
		}
		list, err := f.elements(r.Table.Family, r.Table.Name, lookup.SetName)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			all = append(all, string(e.Val))
		}
	}
	return all, nil
}

// serviceKey is how address, TCP and port are encoded in a key, and
// endpointValue how address and port are in a value: each field takes four
// bytes.
func serviceKey(a netip.AddrPort) string {
	return string(slices.Concat(a.Addr().AsSlice(), []byte{unix.IPPROTO_TCP, 0, 0, 0}, paddedPort(a)))
}

func endpointValue(a netip.AddrPort) string {
	return string(slices.Concat(a.Addr().AsSlice(), paddedPort(a)))
}

func paddedPort(a netip.AddrPort) []byte { return []byte{byte(a.Port() >> 8), byte(a.Port()), 0, 0} }
