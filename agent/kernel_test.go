// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/agent"
)

// alone runs f in a network namespace of its own, which ends with f's thread:
// nothing of this machine's network is seen or changed.
func alone(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Logf("no network namespace here: %v", err)
			return
		}
		f(t)
	}()
	<-done
}

// podNetwork makes what flannel and the bridge plugin make.
func podNetwork(t *testing.T) bool {
	t.Helper()
	link := func(name, address string) {
		l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		if err := netlink.LinkAdd(l); err != nil {
			t.Errorf("add %s: %v", name, err)
			return
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			t.Error(err)
			return
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			t.Error(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Error(err)
		}
	}
	link("eth0", "10.0.0.21/24")
	link("cni0", "10.244.1.1/24")
	for _, dst := range []string{"10.244.2.0/24", "192.168.7.0/24"} {
		_, network, err := net.ParseCIDR(dst)
		if err != nil {
			t.Error(err)
			return false
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: network, Gw: net.IPv4(10, 0, 0, 22)}); err != nil {
			t.Errorf("add route %s: %v", dst, err)
		}
	}
	return !t.Failed()
}

func TestLinux(t *testing.T) {
	alone(t, func(t *testing.T) {
		var k agent.Linux
		if !podNetwork(t) {
			return
		}
		before, err := k.Network(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		slices.Sort(before)
		for _, want := range []string{"link cni0 bridge", "address 10.244.1.1/24 dev cni0", "route 10.244.2.0/24 via 10.0.0.22 dev eth0 ", "rule "} {
			if !slices.ContainsFunc(before, func(line string) bool { return strings.HasPrefix(line, want) }) {
				t.Errorf("no %q in\n%s", want, strings.Join(before, "\n"))
			}
		}
		again, err := k.Network(t.Context())
		slices.Sort(again)
		if diff := agent.Difference(before, again); err != nil || len(diff) > 0 {
			t.Errorf("asked twice: %v, %q", err, diff)
		}
		for range 2 { // the second time there is nothing left to do
			if err := k.DeleteRoutes([]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}); err != nil {
				t.Error(err)
			}
			if err := k.DeleteLink("cni0"); err != nil {
				t.Error(err)
			}
		}
		after, err := k.Network(t.Context())
		slices.Sort(after)
		text := strings.Join(after, "\n")
		if err != nil || strings.Contains(text, "cni0") || strings.Contains(text, "10.244.") {
			t.Errorf("%v, left:\n%s", err, text)
		}
		if !strings.Contains(text, "route 192.168.7.0/24 via 10.0.0.22 ") || !strings.Contains(text, "link eth0 ") {
			t.Errorf("too much was taken away:\n%s", text)
		}
	})
}

// A path where nothing is mounted is as wanted already.
func TestLinuxUnmountOfNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("unmounting needs root")
	}
	dir := t.TempDir()
	for _, path := range []string{dir, dir + "/gone"} {
		if err := (agent.Linux{}).Unmount(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
