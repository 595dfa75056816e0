// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// running is a Proxier at work in a bubble of its own time.
type running struct {
	*testing.T
	kernel *proxiertest.Kernel
	inbox  *proxier.Inbox

	mu   sync.Mutex
	told []proxier.Report
}

func (r *running) report(report proxier.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, report)
}

func (r *running) reports() []proxier.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// inBubble runs a Proxier that knows one Service with two endpoints.
func inBubble(t *testing.T, test func(*running)) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{T: t, kernel: &proxiertest.Kernel{}, inbox: proxier.NewInbox()}
		p := &proxier.Proxier{
			Kernel: r.kernel,
			Model:  proxier.NewModel(proxier.Config{Node: "here"}),
			Inbox:  r.inbox,
			Report: r.report,
		}
		go p.Run(t.Context())
		r.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeAddr}})
		r.inbox.ServiceCIDR("kubernetes", []netip.Prefix{cidr})
		s := web("10.96.0.7")
		s.Ports[0].NodePort = 0
		r.inbox.Service(s)
		r.inbox.Slice(slice("web-1", endpoint("10.244.0.2", "here"), endpoint("10.244.1.2", "there")))
		synctest.Wait()
		test(r)
	})
}

var (
	webFrontend = proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: proxier.TCP}
	first       = proxier.RealServer{Frontend: webFrontend, Addr: netip.MustParseAddrPort("10.244.0.2:8080")}
)

func (r *running) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *running) sync() {
	r.inbox.Synced()
	synctest.Wait()
}

func (r *running) weight(s proxier.RealServer) (weight uint32, there bool) {
	for _, d := range r.kernel.State().Servers[s.Frontend].Dests {
		if d.Addr == s.Addr {
			return d.Weight, true
		}
	}
	return 0, false
}

func (r *running) expect(what string, weight uint32, there bool) {
	r.Helper()
	if w, ok := r.weight(first); w != weight || ok != there {
		r.Fatalf("%s: real server there %t with weight %d, want %t and %d\n%s", what, ok, w, there, weight, r.kernel)
	}
}

func (r *running) lastReport() proxier.Report {
	r.Helper()
	all := r.reports()
	if len(all) == 0 {
		r.Fatal("no report")
	}
	return all[len(all)-1]
}

func TestNothingIsAppliedBeforeEverythingWasTold(t *testing.T) {
	inBubble(t, func(r *running) {
		if n := r.kernel.Applied(); n != 0 {
			t.Fatalf("%d changes before Synced", n)
		}
		r.sync()
		r.expect("after Synced", 1, true)
		if last := r.lastReport(); !last.Full || last.Err != nil || last.Frontends != 1 {
			t.Errorf("report %+v", last)
		}
	})
}

func TestAnEndpointChangeTouchesItsServiceOnly(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		before := r.kernel.Applied()
		r.inbox.Slice(slice("web-1", endpoint("10.244.0.2", "here"), endpoint("10.244.1.2", "there"), endpoint("10.244.1.3", "there")))
		synctest.Wait()
		if n := r.kernel.Applied() - before; n != 1 {
			t.Errorf("%d changes for one more endpoint, want 1", n)
		}
	})
}

func TestDrainUntilTheLastConnection(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		r.kernel.Connect(first, 1)
		r.inbox.Slice(slice("web-1", endpoint("10.244.1.2", "there")))
		synctest.Wait()
		r.expect("endpoint gone", 0, true)
		r.wait(time.Minute)
		r.expect("still connected", 0, true)
		r.kernel.Connect(first, 0)
		r.wait(time.Minute)
		r.expect("connection closed", 0, false)
	})
}

func TestDrainEndsAtTheCap(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		r.kernel.Connect(first, 1)
		r.inbox.Slice(slice("web-1", endpoint("10.244.1.2", "there")))
		r.wait(14 * time.Minute)
		r.expect("before the cap", 0, true)
		r.wait(2 * time.Minute)
		r.expect("after the cap", 0, false)
	})
}

// kube-proxy deletes and adds the real server again, which ends its
// connections (kubernetes/kubernetes#117205).
func TestReadyAgainKeepsConnections(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		r.kernel.Connect(first, 1)
		both := slice("web-1", endpoint("10.244.0.2", "here"), endpoint("10.244.1.2", "there"))
		r.inbox.Slice(slice("web-1", endpoint("10.244.1.2", "there")))
		synctest.Wait()
		r.kernel.Watch = func(now proxier.State) {
			if len(now.Servers[webFrontend].Dests) != 2 {
				t.Error("the real server was deleted on the way")
			}
		}
		r.inbox.Slice(both)
		synctest.Wait()
		r.expect("ready again", 1, true)
		r.wait(20 * time.Minute)
		r.expect("long after", 1, true)
	})
}

func TestDrainGoesOnAfterARestart(t *testing.T) {
	inBubble(t, func(r *running) {
		r.kernel.Meddle(func(s proxier.State) {
			s.Servers[webFrontend] = proxier.Server{Options: proxier.Options{Scheduler: "rr"}, Dests: []proxier.Dest{
				{Addr: netip.MustParseAddrPort("10.244.0.2:8080")},           // drained by the run before, ready now
				{Addr: netip.MustParseAddrPort("10.244.9.9:8080")},           // drains
				{Addr: netip.MustParseAddrPort("10.244.9.10:80"), Weight: 1}, // went while nobody looked
			}}
		})
		r.sync()
		r.expect("ready endpoint with weight 0", 1, true)
		r.wait(time.Minute)
		if n := len(r.kernel.State().Servers[webFrontend].Dests); n != 2 {
			t.Errorf("%d real servers, want the two that are wanted\n%s", n, r.kernel)
		}
	})
}

func TestDriftIsHealed(t *testing.T) {
	for _, c := range []struct {
		name   string
		meddle func(proxier.State)
		notice func(*running)
	}{
		{"sets flushed, seen by event", func(s proxier.State) { clear(s.Elements) }, func(r *running) { r.inbox.Drift("test") }},
		{"route deleted, seen by event", func(s proxier.State) { clear(s.Routes) }, func(r *running) { r.inbox.Drift("test") }},
		{"IPVS flushed, seen by verification", func(s proxier.State) { clear(s.Servers) }, func(r *running) { time.Sleep(20 * time.Minute) }},
		{"scheduler changed, seen by event", func(s proxier.State) {
			server := s.Servers[webFrontend]
			server.Scheduler = "lc"
			s.Servers[webFrontend] = server
		}, func(r *running) { r.inbox.Drift("test") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(r *running) {
				r.sync()
				want := r.kernel.String()
				r.kernel.Meddle(c.meddle)
				if r.kernel.String() == want {
					t.Fatal("nothing was changed")
				}
				c.notice(r)
				synctest.Wait()
				if got := r.kernel.String(); got != want {
					t.Errorf("healed to\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

func TestRefusedChangesAreTriedAgain(t *testing.T) {
	for _, c := range []struct {
		verb proxier.Verb
		err  error
	}{
		{proxier.AddDest, syscall.EEXIST},
		{proxier.EditDest, syscall.ENOENT},
		{proxier.EditDest, syscall.ESRCH},
		{proxier.AddDest, syscall.ENOBUFS},
	} {
		t.Run(c.verb.String()+" "+c.err.Error(), func(t *testing.T) {
			inBubble(t, func(r *running) {
				r.sync()
				r.kernel.Fail(c.verb, c.err)
				r.inbox.Slice(slice("web-1", endpoint("10.244.1.2", "there"), endpoint("10.244.1.3", "there")))
				synctest.Wait()
				if r.lastReport().Err == nil {
					t.Fatal("the refusal was not reported")
				}
				r.wait(time.Second)
				if last := r.lastReport(); last.Err != nil || !last.Full {
					t.Errorf("after a second: %+v", last)
				}
				r.kernel.Fail(proxier.AddDest, syscall.EEXIST)
				r.inbox.Slice(slice("web-1", endpoint("10.244.1.2", "there"), endpoint("10.244.1.3", "there"), endpoint("10.244.1.4", "there")))
				r.wait(150 * time.Millisecond) // the first pause, not the one after the pause before
				if last := r.lastReport(); last.Err != nil {
					t.Errorf("the next error waits longer than the first did: %v", last.Err)
				}
				if r.expect("gone endpoint", 0, true); len(r.kernel.State().Servers[webFrontend].Dests) != 4 {
					t.Errorf("the kernel holds\n%s", r.kernel)
				}
			})
		})
	}
}

func TestADeadKernelIsNotAskedInALoop(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		r.kernel.CutAfter(1)
		r.inbox.Slice(slice("web-1"))
		r.inbox.Service(web("10.96.0.8"))
		synctest.Wait()
		before := len(r.reports())
		r.wait(10 * time.Minute)
		if n := len(r.reports()) - before; n < 5 || n > 40 {
			t.Errorf("%d attempts in ten minutes, want some dozens", n)
		}
		r.kernel.CutAfter(0)
		r.wait(time.Minute)
		if last := r.lastReport(); last.Err != nil {
			t.Errorf("not healed: %v", last.Err)
		}
	})
}

func TestABurstCostsOnePass(t *testing.T) {
	inBubble(t, func(r *running) {
		for range 100 {
			r.inbox.Slice(slice("web-1"))
			r.inbox.Slice(slice("web-1", endpoint("10.244.0.2", "here")))
		}
		r.sync()
		if n := len(r.reports()); n != 1 {
			t.Errorf("%d passes, want 1", n)
		}
	})
}
