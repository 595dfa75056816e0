// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
)

// healing bounds the wait for what should take tenths of a second: machines
// that emulate a processor are slow.
const healing = 20 * time.Second

// harm is what another program does to the kernel.
type harm struct {
	name string
	do   func() error
}

func sh(command string) func() error {
	return func() error {
		argv := strings.Fields(command)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		return nil
	}
}

func harms() []harm {
	list := []harm{
		{"nft flush ruleset", sh("nft flush ruleset")},
		{"ipvsadm -C", sh("ipvsadm -C")},
		{"one virtual server deleted", sh("ipvsadm -D -t 10.96.0.7:80")},
		{"the service route deleted", func() error { return netlink.RouteDel(localRoute(clusterIP, nodeIP)) }},
		{"the rule of captured packets deleted", func() error { return netlink.RuleDel(captureRule(netlink.FAMILY_V4)) }},
		{"the same of IPv6", func() error { return netlink.RuleDel(captureRule(netlink.FAMILY_V6)) }},
		{"the route of captured packets deleted", func() error { return netlink.RouteDel(captureRoute(true)) }},
		{"every element deleted", sh("nft " + strings.Join(flushes(), ";"))},
	}
	for _, ch := range newRules(Options{}).chains() {
		list = append(list, harm{"rules of " + ch.name + " deleted", sh("nft flush chain inet " + TableName + " " + ch.name)})
	}
	return append(list, harm{"everything at once", func() error {
		for _, h := range list[:4] {
			if err := h.do(); err != nil && h.name != "one virtual server deleted" {
				return err
			}
		}
		return nil
	}})
}

// flushes are nft's words to empty each of our sets and maps.
func flushes() []string {
	var all []string
	for _, s := range proxier.Sets() {
		kind := "set"
		if s == proxier.SetSplit {
			kind = "map"
		}
		for _, v4 := range []bool{true, false} {
			all = append(all, fmt.Sprintf("flush %s inet %s %s", kind, TableName, setName(s, v4)))
		}
	}
	return all
}

// rough is a cluster whose proxier is allowed to meet errors, and says how
// often it looked at everything.
type rough struct {
	*cluster
	reader *Kernel // for the test itself
	full   atomic.Int64
}

func newRough(t *testing.T) *rough {
	t.Helper()
	c := &rough{cluster: newCluster(t)}
	c.endpoints() // the first pass is done
	c.cluster.stop()
	var kernels [2]*Kernel
	for i := range kernels {
		var err error
		kernels[i], err = Open(Options{StateDir: t.TempDir()})
		must(t, err)
		t.Cleanup(func() { kernels[i].Close() })
	}
	c.reader = kernels[0]
	c.start(kernels[1])
	return c
}

// start runs a proxier with a watcher, as the program does.
func (c *rough) start(k proxier.Kernel) {
	ctx, cancel := context.WithCancel(c.Context())
	var work sync.WaitGroup
	p := newProxier(k, nil)
	c.inbox = p.Inbox
	p.Report = func(r proxier.Report) {
		if r.Full {
			c.full.Add(1)
		}
		if r.Err != nil {
			c.Logf("pass: %v", r.Err)
			return
		}
		c.slices.Add(int64(r.Slices))
	}
	work.Go(func() { p.Run(ctx) })
	work.Go(func() {
		if err := Watch(ctx, Events{Drift: c.inbox.Drift, Addresses: c.inbox.LocalAddresses}); err != nil {
			c.Errorf("watch: %v", err)
		}
	})
	c.cluster.stop = func() { cancel(); work.Wait() }
}

// TestDriftHeals does harm and waits until the kernel is as it was, rules
// included.
func TestDriftHeals(t *testing.T) {
	c := newRough(t)
	c.service(nil, podA, podB)
	for _, h := range harms() {
		before, passes := c.everything(), c.full.Load()
		must(t, h.do())
		took := eventually(t, h.name, healing, func() bool { return c.full.Load() > passes && c.everything() == before })
		t.Logf("%s: healed after %s", h.name, took.Round(time.Millisecond))
		c.wants(c.client, "udp", byClusterIP, "a")
		c.wants(c.client, "udp", byClusterIP, "b")
	}
}

// everything is the state of the kernel, and what states do not tell: the
// table as nft prints it, and how captured packets are led.
func (c *rough) everything() string {
	state, err := c.reader.Read(c.Context())
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	fmt.Fprintln(&text, state)
	for _, command := range []string{"nft -s list table inet " + TableName, "ip -4 rule", "ip -6 rule",
		fmt.Sprint("ip -4 route show table ", captureTable), fmt.Sprint("ip -6 route show table ", captureTable)} {
		argv := strings.Fields(command)
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		fmt.Fprintln(&text, command, err, withoutElements(string(out)))
	}
	return text.String()
}

// withoutElements drops what nft prints in no certain order.
func withoutElements(table string) string {
	var out []string
	in := false
	for line := range strings.Lines(table) {
		in = in || strings.Contains(line, "elements = {")
		if !in {
			out = append(out, line)
		}
		in = in && !strings.Contains(line, "}")
	}
	return strings.Join(out, "")
}

// TestNodeAddress takes the node's address away, and with it the kernel
// removes the routes that prefer it.
func TestNodeAddress(t *testing.T) {
	c := newRough(t)
	c.service(nil, podA)
	lo := link(t, "lo")
	before := c.everything()
	other := netip.MustParseAddr("192.0.2.99")
	t.Cleanup(func() { netlink.AddrDel(lo, whole(other)) })

	for _, a := range []netip.Addr{nodeIP, nodeIP6} {
		must(t, netlink.AddrDel(lo, whole(a)))
		must(t, netlink.AddrReplace(lo, whole(a)))
		took := eventually(t, a.String()+" again", healing, func() bool { return c.everything() == before })
		t.Logf("%s again: healed after %s", a, took.Round(time.Millisecond))
	}
	c.wants(c.node, "tcp", byClusterIP, "a", nodeIP)

	must(t, netlink.AddrDel(lo, whole(nodeIP)))
	must(t, netlink.AddrReplace(lo, whole(other)))
	c.inbox.Node(proxier.Node{Addrs: []netip.Addr{other, nodeIP6}})
	took := eventually(t, "another address", healing, func() bool {
		got, err := c.node.ask("tcp", byClusterIP)
		return err == nil && got.from == other
	})
	t.Logf("another address: healed after %s", took.Round(time.Millisecond))
	c.wants(c.outside, "tcp", "192.0.2.99:30080", "a")
	must(t, netlink.AddrReplace(lo, whole(nodeIP)))
	c.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}})
	eventually(t, "the first address again", healing, func() bool { return c.everything() == before })
}
