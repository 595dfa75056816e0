// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"net/netip"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

func TestTimeoutsOfIPVS(t *testing.T) {
	stateDir := t.TempDir() + "/state"
	read := func() (all [3]string) {
		for i, name := range ipvsTimeouts {
			value, err := netlinkTimeouts{}.read(name)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = value
		}
		return all
	}
	before := read()
	asked := Settings{IPVSTCP: 77 * time.Second, IPVSUDP: 33 * time.Second, ConntrackUDP: 44 * time.Second, ConntrackUDPStream: 99 * time.Second}
	for range 2 {
		if err := asked.Apply(stateDir); err != nil {
			t.Fatal(err)
		}
		if got, want := read(), [3]string{"77", before[1], "33"}; got != want {
			t.Errorf("timeouts %v, want %v", got, want)
		}
	}
	if err := newSysctls(stateDir).restore(); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != before {
		t.Errorf("restored %v, want %v", got, before)
	}
}

// TestIPv6Forwarding shows that it is switched on with the first route and
// put back by CleanUp.
func TestIPv6Forwarding(t *testing.T) {
	k := &Kernel{sysctls: newSysctls(t.TempDir() + "/state")}
	if err := k.sysctls.write("net/ipv6/conf/all/forwarding", "0"); err != nil {
		t.Fatal(err)
	}
	forwarding := func(what, want string) {
		t.Helper()
		if got, err := k.sysctls.read("net/ipv6/conf/all/forwarding"); err != nil || got != want {
			t.Errorf("%s: forwarding is %s, %v, want %s", what, got, err, want)
		}
	}
	v4 := proxier.RouteChange{Prefix: netip.MustParsePrefix("10.96.0.0/16"), Source: netip.MustParseAddr("127.0.0.1")}
	v6 := proxier.RouteChange{Prefix: netip.MustParsePrefix("fd00:96::/112"), Source: netip.MustParseAddr("::1")}
	if err := k.forward([]proxier.RouteChange{v4, {Prefix: v6.Prefix, Del: true}}); err != nil {
		t.Fatal(err)
	}
	forwarding("no IPv6 is served", "0")
	if err := k.forward([]proxier.RouteChange{v4, v6}); err != nil {
		t.Fatal(err)
	}
	forwarding("IPv6 is served", "1")
	if err := k.sysctls.restore(); err != nil {
		t.Fatal(err)
	}
	forwarding("cleaned up", "0")
}
