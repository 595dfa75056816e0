// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// gateway is the node's end of every cable.
func gateway() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 0, 1}) }

// network is what is around this network namespace, which is the node: a
// link with the node's address, and two hosts on cables, one with the pods
// that answer and one with a client. Both end with ctx.
type network struct {
	pods   *worker
	client *worker
}

func newNetwork(ctx context.Context) (*network, error) {
	if err := nodeLinks(); err != nil {
		return nil, fmt.Errorf("give the node its address: %w", err)
	}
	n := &network{}
	var err error
	if n.pods, err = newWorker(ctx, "pods", initial(0)...); err != nil {
		return nil, err
	}
	if n.client, err = newWorker(ctx, "client", clientAddr()); err != nil {
		return nil, errors.Join(err, n.pods.stop())
	}
	return n, nil
}

func (n *network) stop() error { return errors.Join(n.pods.stop(), n.client.stop()) }

func nodeLinks() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	uplink := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}}
	err = errors.Join(netlink.LinkSetUp(lo), netlink.LinkAdd(uplink))
	if err != nil {
		return err
	}
	subnet := &netlink.Addr{IPNet: &net.IPNet{IP: nodeAddr().AsSlice(), Mask: net.CIDRMask(24, 32)}}
	router := net.IPv4(192, 0, 2, 1)
	if err := errors.Join(netlink.AddrAdd(uplink, subnet), netlink.LinkSetUp(uplink)); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Index, Gw: router}); err != nil {
		return err
	}
	// Nodes forward; not every contender sees to it.
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600)
}

// worker is this program as another host: it works in a network namespace of
// its own, takes orders on its standard input and answers on its output.
type worker struct {
	command *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

// newWorker starts a host and plugs it in.
func newWorker(ctx context.Context, role string, addrs ...netip.Addr) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{command: exec.CommandContext(ctx, self, role)}
	w.command.Stderr = os.Stderr
	w.command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	answers, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.answers = json.NewDecoder(answers)
	if w.orders, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.command.Start(); err != nil {
		return nil, fmt.Errorf("start host %s: %w", role, err)
	}
	if err := plug(role, w.command.Process.Pid, addrs); err != nil {
		return nil, errors.Join(fmt.Errorf("plug in host %s: %w", role, err), w.stop())
	}
	return w, nil
}

// order has the worker do something and decodes its answer.
func (w *worker) order(what load) (loadResult, error) {
	var r loadResult
	if err := json.NewEncoder(w.orders).Encode(what); err != nil {
		return r, fmt.Errorf("order a load: %w", err)
	}
	if err := w.answers.Decode(&r); err != nil {
		return r, fmt.Errorf("hear of a load: %w", err)
	}
	if r.Fault != "" {
		return r, fmt.Errorf("load %s: %s", what.Target, r.Fault)
	}
	return r, nil
}

// stop ends the worker, which ends when its input does.
func (w *worker) stop() error { return errors.Join(w.orders.Close(), w.command.Wait()) }

// plug gives the namespace of a process addresses, and a cable to this one.
func plug(name string, pid int, addrs []netip.Addr) error {
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(cable, whole(gateway())), netlink.LinkSetUp(cable)); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer ns.Close() //nolint:errcheck // only a reference
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer there.Close()
	eth, err := there.LinkByName("eth0")
	if err != nil {
		return err
	}
	lo, err := there.LinkByName("lo")
	if err != nil {
		return err
	}
	index := eth.Attrs().Index
	faults := []error{there.LinkSetUp(lo), there.LinkSetUp(eth)}
	for _, a := range addrs {
		faults = append(faults, there.AddrAdd(eth, whole(a)),
			netlink.RouteAdd(&netlink.Route{LinkIndex: cable.Index, Dst: whole(a).IPNet, Scope: netlink.SCOPE_LINK}))
	}
	faults = append(faults,
		there.RouteAdd(&netlink.Route{LinkIndex: index, Dst: whole(gateway()).IPNet, Scope: netlink.SCOPE_LINK}),
		there.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway().AsSlice()}))
	return errors.Join(faults...)
}

func whole(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
}
