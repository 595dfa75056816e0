// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	nl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Events are what [Watch] tells. Each may be called at any time, one at a
// time.
type Events struct {
	Drift     func(what string)  // somebody else changed what is ours
	Addresses func([]netip.Addr) // this host's addresses, now and at each change
}

// Watch follows changes of our table, our routes and rules and the host's
// addresses until ctx ends. IPVS has no events: it has to be read now and
// then.
func Watch(ctx context.Context, tell Events) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drift, err := watchDrift(ctx)
	if err != nil {
		return err
	}
	routes := make(chan netlink.RouteUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	lost := make(chan error, 2)
	if err := subscribe(ctx, routes, addrs, lost); err != nil {
		return err
	}
	if err := tellAddresses(tell); err != nil {
		return err
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case what, ok := <-drift[0]:
			if !ok {
				return ended(ctx, "nftables event")
			}
			tell.Drift(what)
		case what, ok := <-drift[1]:
			if !ok {
				return ended(ctx, "routing rule event")
			}
			tell.Drift(what)
		case err := <-lost:
			tell.Drift(fmt.Sprintf("events were lost: %v", err))
		case r, ok := <-routes:
			if !ok {
				return ended(ctx, "route event")
			}
			if r.Type == unix.RTM_DELROUTE && r.Protocol == routeProtocol {
				tell.Drift("a service route was deleted")
			}
		case a, ok := <-addrs:
			if !ok {
				return ended(ctx, "address event")
			}
			// Routes that prefer it vanish, and of IPv6 ones only that they
			// do, which nothing else tells.
			if !a.NewAddr && !a.LinkAddress.IP.IsLinkLocalUnicast() {
				tell.Drift("an address of this host was deleted")
			}
			if err := tellAddresses(tell); err != nil {
				return err
			}
		}
	}
	return nil
}

// ended is an error, but not where it is us who end.
func ended(ctx context.Context, socket string) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the %s socket ended", socket)
}

// watchDrift follows our table and our routing rule.
func watchDrift(ctx context.Context) (drift [2]<-chan string, err error) {
	table, err := newTransaction()
	if err != nil {
		return drift, err
	}
	if drift[0], err = watch(ctx, unix.NETLINK_NETFILTER, table.see, unix.NFNLGRP_NFTABLES); err != nil {
		return drift, fmt.Errorf("subscribe to nftables: %w", err)
	}
	if drift[1], err = watch(ctx, unix.NETLINK_ROUTE, seeRules, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE); err != nil {
		return drift, fmt.Errorf("subscribe to routing rules: %w", err)
	}
	return drift, nil
}

// subscribe follows routes and addresses. What goes wrong later goes to lost.
func subscribe(ctx context.Context, routes chan netlink.RouteUpdate, addrs chan netlink.AddrUpdate, lost chan<- error) error {
	onError := func(err error) {
		select {
		case lost <- err:
		default: // one is enough to look at everything
		}
	}
	err := netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{
		ErrorCallback: onError, ReceiveBufferSize: socketSize, ReceiveBufferForceSize: true})
	if err != nil {
		return fmt.Errorf("subscribe to routes: %w", err)
	}
	err = netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{
		ErrorCallback: onError, ReceiveBufferSize: socketSize, ReceiveBufferForceSize: true})
	if err != nil {
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	return nil
}

func tellAddresses(tell Events) error {
	list, err := Addresses()
	if err == nil {
		tell.Addresses(list)
	}
	return err
}

// Addresses are this host's addresses, without loopback and link-local ones.
func Addresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		if ok && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			all = append(all, addr)
		}
	}
	return all, nil
}

// watch joins groups of a netlink protocol and passes on what see makes of
// their messages, unless that is nothing.
func watch(ctx context.Context, protocol int, see func([]nl.Message) (drift string), groups ...int) (<-chan string, error) {
	mask := uint32(0)
	for _, g := range groups {
		mask |= 1 << (g - 1)
	}
	c, err := nl.Dial(protocol, &nl.Config{Groups: mask})
	if err != nil {
		return nil, err
	}
	if err := c.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	out := make(chan string)
	go func() {
		defer close(out)
		defer c.Close()
		stop := context.AfterFunc(ctx, func() {
			_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes the read; it fails only on a closed socket, which is awake
		})
		defer stop()
		for ctx.Err() == nil {
			messages, err := c.Receive()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			what := see(messages)
			if err != nil {
				what = "events were lost"
			}
			if what == "" {
				continue
			}
			select {
			case out <- what:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// seeRules notices that our routing rule was deleted.
func seeRules(messages []nl.Message) (drift string) {
	const afterHeader = 12 // struct fib_rule_hdr
	for _, m := range messages {
		if m.Header.Type != unix.RTM_DELRULE || len(m.Data) < afterHeader {
			continue
		}
		attrs, err := parseAttrs(m.Data[afterHeader:])
		if err == nil && slices.Equal(attrs[unix.FRA_PROTOCOL], []byte{routeProtocol}) {
			drift = "the routing rule of captured packets was deleted"
		}
	}
	return drift
}

// transaction collects the events of one nftables transaction. The kernel
// ends each with a NEWGEN event that names the task that made it, by a number
// that a PID namespace hides: in a container its name has to do.
type transaction struct {
	deleted string
	ourName string // where numbers say nothing; "" is elsewhere
}

// firstPIDNamespace is its link in /proc (PROC_PID_INIT_INO).
const firstPIDNamespace = "pid:[4026531836]"

func newTransaction() (*transaction, error) {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("find out whether this is a container: %w", err)
	}
	if namespace == firstPIDNamespace {
		return &transaction{}, nil
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return nil, fmt.Errorf("read this program's name: %w", err)
	}
	return &transaction{ourName: strings.TrimSpace(string(name))}, nil
}

// ours tells whether this process made it.
func (t *transaction) ours(attrs map[uint16][]byte) bool {
	if t.ourName != "" {
		return string(bytes.TrimRight(attrs[unix.NFTA_GEN_PROC_NAME], "\x00")) == t.ourName
	}
	return ourTask(attrs[unix.NFTA_GEN_PROC_PID])
}

func (t *transaction) see(messages []nl.Message) (drift string) {
	for _, m := range messages {
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
			continue
		}
		attrs, err := parseAttrs(m.Data[4:]) // after struct nfgenmsg
		if err != nil {
			continue
		}
		switch kind := m.Header.Type & 0xff; kind {
		case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
			// In each of them attribute 1 is the table's name.
			if string(attrs[1]) == TableName+"\x00" {
				t.deleted = deletions(kind)
			}
		case unix.NFT_MSG_NEWGEN:
			if t.deleted != "" && !t.ours(attrs) {
				drift = t.deleted
			}
			t.deleted = ""
		}
	}
	return drift
}

func deletions(kind nl.HeaderType) string {
	switch kind {
	case unix.NFT_MSG_DELTABLE:
		return "the nftables table was deleted"
	case unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
		return "an nftables rule was deleted"
	}
	return "an nftables element was deleted"
}

// ourTask tells whether one of this process's threads has that number.
func ourTask(id []byte) bool {
	if len(id) != 4 {
		return false
	}
	_, err := os.Stat("/proc/self/task/" + strconv.Itoa(int(binary.BigEndian.Uint32(id))))
	return err == nil
}
