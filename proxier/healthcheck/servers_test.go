// SPDX-License-Identifier: Apache-2.0

package healthcheck_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

func here() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} }

func web() proxier.Name { return proxier.Name{Namespace: "default", Name: "web"} }

// freePort returns a port nobody listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// started returns Servers that are closed with the test.
func started(t *testing.T, s *healthcheck.Servers) *healthcheck.Servers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// ask returns the status, body and weight of one answer.
func ask(t *testing.T, port uint16) (int, string, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err != nil {
		return 0, err.Error(), ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header.Get("X-Load-Balancing-Endpoint-Weight")
}

func TestAnswers(t *testing.T) {
	var sick atomic.Bool
	port := freePort(t)
	s := started(t, &healthcheck.Servers{Healthy: func() bool { return !sick.Load() }})
	for _, c := range []struct {
		what   string
		local  int
		sick   bool
		status int
	}{
		{"two endpoints here", 2, false, 200},
		{"none", 0, false, 503},
		{"one again", 1, false, 200},
		{"a proxier that does not work", 1, true, 503},
	} {
		sick.Store(c.sick)
		s.Sync(here(), map[uint16]healthcheck.Check{port: {Service: web(), Local: c.local}})
		status, body, weight := ask(t, port)
		want := fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %t\n}", c.local, !c.sick)
		if status != c.status || weight != fmt.Sprint(c.local) || body != want {
			t.Errorf("%s: %d, weight %s, %s\nwant %d, %s", c.what, status, weight, body, c.status, want)
		}
	}
}

func TestPortsComeAndGo(t *testing.T) {
	a, b := freePort(t), freePort(t)
	other := proxier.Name{Namespace: "default", Name: "other"}
	s := started(t, &healthcheck.Servers{})
	check := func(what string, port uint16, service string) {
		t.Helper()
		status, body, _ := ask(t, port)
		if service == "" {
			if status != 0 {
				t.Errorf("%s: port %d answers %d", what, port, status)
			}
			return
		}
		var got struct{ Service proxier.Name }
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Service.Name != service {
			t.Errorf("%s: port %d answers %s, want %s", what, port, body, service)
		}
	}
	s.Sync(here(), map[uint16]healthcheck.Check{a: {web(), 1}})
	check("one port", a, "web")
	s.Sync(here(), map[uint16]healthcheck.Check{a: {other, 1}, b: {web(), 1}})
	check("the port of another Service now", a, "other")
	check("a second port", b, "web")
	s.Sync(nil, map[uint16]healthcheck.Check{a: {other, 1}})
	check("no address", a, "")
	s.Sync(here(), map[uint16]healthcheck.Check{a: {other, 1}})
	check("the address is back", a, "other")
	s.Sync(here(), nil)
	check("no check", a, "")
	check("no check", b, "")
}

// faults collects what was told.
type faults struct {
	mu   sync.Mutex
	list []string
}

func (f *faults) add(fault healthcheck.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fmt.Sprintf("%s: %v", fault.Check.Service, fault.Err))
}

func (f *faults) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.list...)
}

func TestPortInUse(t *testing.T) {
	var told faults
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	free := freePort(t)
	s := started(t, &healthcheck.Servers{Fault: told.add})
	checks := map[uint16]healthcheck.Check{port: {web(), 1}, free: {web(), 1}}
	for range 3 {
		s.Sync(here(), checks)
	}
	if got := told.all(); len(got) != 1 || !strings.Contains(got[0], "default/web") || !strings.Contains(got[0], "in use") {
		t.Errorf("told %q, want one fault of a port in use", got)
	}
	if status, _, _ := ask(t, free); status != 200 {
		t.Errorf("the free port answers %d", status)
	}
	l.Close()
	s.Sync(here(), checks)
	if status, _, _ := ask(t, port); status != 200 {
		t.Errorf("the port that was in use answers %d", status)
	}
}

func TestPortIsTriedAgain(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	s := started(t, &healthcheck.Servers{Retry: time.Millisecond})
	s.Sync(here(), map[uint16]healthcheck.Check{port: {web(), 1}})
	l.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, _, _ := ask(t, port); status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the port is free and nobody answers")
		}
	}
}

// TestRunEnds shows that nothing listens any more, whatever comes late.
func TestRunEnds(t *testing.T) {
	port := freePort(t)
	s := &healthcheck.Servers{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	checks := map[uint16]healthcheck.Check{port: {web(), 1}}
	s.Sync(here(), checks)
	if status, _, _ := ask(t, port); status != 200 {
		t.Fatalf("answers %d", status)
	}
	cancel()
	<-done
	for _, late := range []bool{false, true} {
		if late {
			s.Sync(here(), checks)
		}
		if status, _, _ := ask(t, port); status != 0 {
			t.Errorf("a late Sync %t: answers %d", late, status)
		}
	}
}
