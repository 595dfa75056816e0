// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/proxier"
)

// IPVS announces nothing, and what ends Services is to be healed within a
// second all the same.
func TestAProbeNoticesWhatWasDeleted(t *testing.T) {
	for _, c := range []struct {
		name   string
		within time.Duration
		meddle func(proxier.State)
	}{
		{"everything", time.Second, func(s proxier.State) { clear(s.Servers) }},
		{"one virtual server", time.Second, func(s proxier.State) { delete(s.Servers, webFrontend) }},
		{"another program's, and ours for it", time.Minute, func(s proxier.State) {
			delete(s.Servers, webFrontend)
			s.Servers[foreign] = proxier.Server{}
		}},
		{"a real server", time.Minute, func(s proxier.State) {
			server := s.Servers[webFrontend]
			server.Dests = server.Dests[1:]
			s.Servers[webFrontend] = server
		}},
		{"a weight", time.Minute, func(s proxier.State) {
			server := s.Servers[webFrontend]
			server.Dests = []proxier.Dest{{Addr: server.Dests[0].Addr, Weight: 9}, server.Dests[1]}
			s.Servers[webFrontend] = server
		}},
		{"a scheduler", time.Minute, func(s proxier.State) {
			server := s.Servers[webFrontend]
			server.Scheduler = "lc"
			s.Servers[webFrontend] = server
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(r *running) {
				r.crowd(20)
				r.sync()
				want := r.kernel.State()
				r.kernel.Meddle(c.meddle)
				if r.kernel.String() == want.String() {
					t.Fatal("nothing was changed")
				}
				r.wait(c.within)
				got := r.kernel.State()
				delete(got.Servers, foreign)
				if got.String() != want.String() {
					t.Errorf("after %s\n%s\nwant\n%s", c.within, got, want)
				}
			})
		})
	}
}

var foreign = proxier.Frontend{Addr: netip.MustParseAddrPort("198.51.100.7:80"), Proto: proxier.TCP}

// crowd tells of n more Services.
func (r *running) crowd(n int) {
	for i := range n {
		s := web(netip.AddrFrom4([4]byte{10, 96, 9, byte(i)}).String())
		s.Name.Name = s.ClusterIPs[0].String()
		s.Ports[0].NodePort = 0
		r.inbox.Service(s)
	}
}

func (r *running) fullPasses() (n int) {
	for _, report := range r.reports() {
		if report.Full {
			n++
		}
	}
	return n
}

func TestProbesTakeNoNoticeOfOurOwnChanges(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		for n := range 30 {
			r.crowd(n)
			r.wait(time.Second)
			for i := range n / 2 {
				r.inbox.NoService(proxier.Name{Namespace: "default", Name: netip.AddrFrom4([4]byte{10, 96, 9, byte(i)}).String()})
			}
			r.wait(time.Second)
		}
		if n := r.fullPasses(); n != 1 {
			t.Errorf("%d full passes, want the first only: %+v", n, r.lastReport())
		}
	})
}

// Another program may use IPVS too, and be busy.
func TestAnotherProgramsChangesCostLittle(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		for range 3600 {
			r.kernel.Meddle(func(s proxier.State) {
				if _, there := s.Servers[foreign]; there {
					delete(s.Servers, foreign)
				} else {
					s.Servers[foreign] = proxier.Server{Options: proxier.Options{Scheduler: "wlc"}}
				}
			})
			r.wait(time.Second)
		}
		if n := r.fullPasses(); n < 2 || n > 100 {
			t.Errorf("%d full passes in an hour, want a few dozen", n)
		}
		last := r.lastReport()
		if last.Changes != 0 || last.Err != nil {
			t.Errorf("last report %+v", last)
		}
		r.wait(20 * time.Minute)
		want := maps.Clone(r.kernel.State().Servers)
		r.kernel.Meddle(func(s proxier.State) { delete(s.Servers, webFrontend) })
		synctest.Wait()
		r.wait(time.Second)
		if got := r.kernel.State().Servers; len(got) != len(want) {
			t.Errorf("twenty minutes after the other program rested, a deletion is not healed within a second")
		}
	})
}
