// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// TestMinSync shows that a burst of events is one pass a period, and that
// neither the first event nor drift waits.
func TestMinSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{T: t, kernel: &proxiertest.Kernel{}, inbox: proxier.NewInbox()}
		p := &proxier.Proxier{
			Kernel: r.kernel, Model: proxier.NewModel(proxier.Config{Node: "here"}), Inbox: r.inbox, Report: r.report,
			Timing: proxier.Timing{MinSync: 10 * time.Second},
		}
		go p.Run(t.Context())
		r.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeAddr}})
		r.inbox.ServiceCIDR("kubernetes", []netip.Prefix{cidr})
		r.inbox.Service(web("10.96.0.7"))
		r.sync()
		passes := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			got := 0
			for _, report := range r.reports() {
				if report.Full || report.Services+report.Slices > 0 { // the rest is about draining
					got++
				}
			}
			if got != want {
				t.Errorf("%s: %d passes, want %d", what, got, want)
			}
		}
		passes("the first event", 1)
		for i := range 9 {
			r.inbox.Slice(slice("web-1", endpoint("10.244.0.2", "here"), endpoint(netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}).String(), "there")))
			r.wait(time.Second)
		}
		passes("a burst within the period", 1)
		r.wait(time.Second)
		passes("the period is over", 2)
		r.inbox.Drift("somebody was here")
		passes("drift", 3)
		r.inbox.NoSlice(slice("web-1").Name)
		passes("an event after it", 3)
		r.wait(10 * time.Second)
		passes("later", 4)
		r.wait(time.Minute)
		r.inbox.NoService(web("10.96.0.7").Name)
		passes("an event after silence", 5)
	})
}
