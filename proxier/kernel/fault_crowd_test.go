// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

// TestManyServicesOneByOne is an API server that is told of Services one after
// the other, with another namespace that has virtual servers too, and with
// drift now and then: each is served, at a cost that does not grow, and
// nothing is left open.
func TestManyServicesOneByOne(t *testing.T) {
	k := fresh(t)
	newHost(t, "other").in(func() {
		v, err := dialIPVS()
		must(t, err)
		defer v.close()
		must(t, v.apply(virtualServers(100, 1)))
	})
	n := setting(t, killSize, 300)
	p, reports := watched(t, k)
	awaitServed(t, reports, 0)
	files, begin := openFiles(t), time.Now()
	full := 0
	for i := range n {
		s := newServed(fmt.Sprint("s", i), netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 0, podA, podB)
		p.Inbox.Slice(s.slice)
		p.Inbox.Service(s.Service)
		if i%50 == 49 {
			p.Inbox.Drift("the test says so")
		}
		full += awaitServed(t, reports, i+1)
	}
	t.Logf("%d Services in %s, %d times everything was compared", n, time.Since(begin).Round(time.Millisecond), full)
	if full > n/50+3 {
		t.Errorf("everything was compared %d times, %d were asked for", full, n/50)
	}
	if now := openFiles(t); now > files+2 {
		t.Errorf("%d files are open, %d were", now, files)
	}
}

// crowded bounds the wait until a crowd is served, also on a slow machine.
const crowded = 3 * time.Minute

// watched runs a proxier and a watcher until the test ends.
func watched(t *testing.T, k proxier.Kernel) (*proxier.Proxier, <-chan proxier.Report) {
	t.Helper()
	reports := make(chan proxier.Report, 10_000)
	p := newProxier(k, nil)
	p.Report = func(r proxier.Report) { reports <- r }
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { p.Run(ctx) })
	work.Go(func() {
		if err := Watch(ctx, Events{Drift: p.Inbox.Drift, Addresses: p.Inbox.LocalAddresses}); err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); work.Wait() })
	return p, reports
}

// TestManyServicesAtOnce: the events of our own large transactions must not
// look like somebody else's, nor their number like events that were lost, or
// each comparison would make the next.
func TestManyServicesAtOnce(t *testing.T) {
	p, reports := watched(t, fresh(t))
	awaitServed(t, reports, 0)
	n, begin := 10*setting(t, killSize, 300), time.Now()
	for i := range n {
		s := newServed(fmt.Sprint("s", i), netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 0, podA, podB)
		p.Inbox.Slice(s.slice)
		p.Inbox.Service(s.Service)
	}
	full := awaitServed(t, reports, n)
	t.Logf("%d Services in %s", n, time.Since(begin).Round(time.Millisecond))
	for i := range n {
		p.Inbox.NoService(proxier.Name{Namespace: "default", Name: fmt.Sprint("s", i)})
	}
	full += awaitServed(t, reports, 0)
	quiet := time.After(time.Second)
	for waiting := true; waiting; {
		select {
		case r := <-reports:
			if r.Full {
				full++
				t.Logf("everything was compared: %s", r.Why)
			}
		case <-quiet:
			waiting = false
		}
	}
	if full > 1 {
		t.Errorf("everything was compared %d times for no reason", full)
	}
}

// awaitServed waits until n Services are, and counts full passes.
func awaitServed(t *testing.T, reports <-chan proxier.Report, n int) (full int) {
	t.Helper()
	limit := time.After(crowded)
	for {
		select {
		case r := <-reports:
			if r.Err != nil {
				t.Fatalf("with %d Services: %v", n, r.Err)
			}
			if r.Full {
				full++
			}
			if r.Frontends == n {
				return full
			}
		case <-limit:
			t.Fatalf("%d Services are not served within %s", n, crowded)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// TestManyServicesInAContainer is the same in a PID namespace: there the
// proxier once took its own changes for drift, and compared everything after
// each of them, for ever.
func TestManyServicesInAContainer(t *testing.T) {
	program, err := os.Open("/proc/self/exe")
	must(t, err)
	defer program.Close()
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
		"/proc/self/fd/3", "-test.v", "-test.run", "^TestManyServicesOneByOne$")
	cmd.ExtraFiles = []*os.File{program} // 3 and up
	cmd.Env = append(os.Environ(), killSize+"=60")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
