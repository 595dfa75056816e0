// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/proxier"
)

// TestOneRefusedServiceHoldsUpNoOther: a kernel without a scheduler, or without
// IPv6, refuses some Service at every try.
func TestOneRefusedServiceHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(r *running) {
		r.kernel.Fault = func(what string) error {
			if strings.Contains(what, "10.96.9.3:80") && strings.Contains(what, "server") {
				return syscall.EAFNOSUPPORT
			}
			return nil
		}
		r.crowd(6)
		r.sync()
		r.serves("10.96.9.2:80", true)
		r.serves("10.96.9.3:80", false)
		r.serves("10.96.9.4:80", true)
		for i := range 100 {
			r.inbox.Slice(slice("web-1", endpoint("10.244.0.2", "here"), endpoint(fmt.Sprint("10.244.1.", i%2), "there")))
			r.wait(time.Second)
		}
		if n := r.fullPasses(); n > 20 {
			t.Errorf("%d of %d passes compared everything, want a few retries", n, len(r.reports()))
		}
		if n := len(r.reports()); n < 100 {
			t.Errorf("%d passes for 100 events", n)
		}
		r.kernel.Fault = nil
		r.wait(time.Minute)
		r.serves("10.96.9.3:80", true)
		if last := r.lastReport(); last.Err != nil {
			t.Errorf("cured, and yet %v", last.Err)
		}
	})
}

// TestAServerThatWasThere: somebody made it since everything was read, or the
// kernel left it out of its list.
func TestAServerThatWasThere(t *testing.T) {
	inBubble(t, func(r *running) {
		r.sync()
		f := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.9.0:80"), Proto: proxier.TCP}
		r.kernel.Meddle(func(s proxier.State) {
			s.Servers[f] = proxier.Server{Options: proxier.Options{Scheduler: "lc"}}
		})
		r.crowd(2)
		first := slice("first", endpoint("10.244.1.9", "there"))
		first.Service.Name = "10.96.9.0"
		r.inbox.Slice(first)
		synctest.Wait()
		if err := r.lastReport().Err; !errors.Is(err, syscall.EEXIST) || strings.Contains(err.Error(), "remember") {
			t.Errorf("reported %v, want the refusal alone", err)
		}
		r.wait(time.Second)
		if last, server := r.lastReport(), r.kernel.State().Servers[f]; last.Err != nil || server.Scheduler != "rr" || len(server.Dests) != 1 {
			t.Errorf("after a second: %v\n%s", last.Err, r.kernel)
		}
	})
}

// serves checks that a frontend can be reached, or cannot be.
func (r *running) serves(addr string, want bool) {
	r.Helper()
	f := proxier.Frontend{Addr: netip.MustParseAddrPort(addr), Proto: proxier.TCP}
	state := r.kernel.State()
	_, there := state.Servers[f]
	if open := there && state.Has(proxier.FrontendElement(proxier.SetFrontends, f)); open != want {
		r.Errorf("%s is served: %t, want %t\n%s", addr, open, want, state)
	}
}

// TestARouteThatIsImpossible: the Node says that it has an IPv6 address, and
// the host has it not.
func TestARouteThatIsImpossible(t *testing.T) {
	inBubble(t, func(r *running) {
		r.kernel.Fault = func(what string) error {
			if strings.Contains(what, "route fd00:") {
				return syscall.EINVAL
			}
			return nil
		}
		r.inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeAddr, netip.MustParseAddr("2001:db8::1")}})
		r.inbox.ServiceCIDR("second", []netip.Prefix{netip.MustParsePrefix("fd00:96::/112")})
		r.sync()
		r.serves("10.96.0.7:80", true)
		r.crowd(2)
		r.wait(time.Second)
		r.serves("10.96.9.1:80", true)
	})
}

// TestAnyErrorAnywhere lets a quarter of all calls fail for a while.
func TestAnyErrorAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(r *running) {
		r.sync()
		steady := func(s proxier.State) {
			if !s.Has(proxier.FrontendElement(proxier.SetFrontends, webFrontend)) || len(s.Servers[webFrontend].Dests) < 2 {
				t.Errorf("a Service that does not change lost something:\n%s", s)
			}
		}
		dice := rand.New(rand.NewPCG(seed, 1))
		errs := []error{syscall.EEXIST, syscall.ESRCH, syscall.ENOENT, syscall.ENOBUFS, syscall.EINTR, syscall.EAGAIN, syscall.ENOMEM, nil}
		failed := 0
		r.kernel.Watch = steady
		r.kernel.Fault = func(string) error {
			if dice.IntN(4) > 0 {
				return nil
			}
			failed++
			return errs[dice.IntN(len(errs))]
		}
		for i := range 300 {
			r.crowd(i % 30)
			for j := range i % 20 {
				r.inbox.NoService(proxier.Name{Namespace: "default", Name: fmt.Sprint("10.96.9.", j)})
			}
			r.wait(time.Duration(dice.IntN(2000)) * time.Millisecond)
		}
		if failed < 100 {
			t.Errorf("only %d calls failed", failed)
		}
		r.kernel.Fault = nil
		r.wait(2 * time.Minute)
		got := r.kernel.String()
		r.inbox.Drift("the end of the test")
		r.wait(time.Second)
		if last := r.lastReport(); !last.Full || last.Changes != 0 || last.Err != nil {
			t.Errorf("two minutes after the last error there was something left to do: %+v\n%s", last, got)
		}
	})
}
