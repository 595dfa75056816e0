// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

// written is an eventWriter that keeps what it gets.
type written struct {
	got  chan *eventsv1.Event
	fail error
}

func (w *written) write(_ context.Context, e *eventsv1.Event) error {
	w.got <- e
	return w.fail
}

func TestReporter(t *testing.T) {
	r, w := newReporter("w-1", slog.New(slog.DiscardHandler)), &written{got: make(chan *eventsv1.Event, 16)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.run(ctx, w); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	told := func(what string, want ...string) {
		t.Helper()
		for _, text := range want {
			e := <-w.got
			if got := fmt.Sprintf("%s/%s %s %s %s", e.Namespace, e.Regarding.Name, e.Type, e.Reason, e.Note); got != text {
				t.Errorf("%s: told %q, want %q", what, got, text)
			}
			if e.ReportingController == "" || e.ReportingInstance != "w-1" || e.Action == "" || e.EventTime.IsZero() {
				t.Errorf("%s: the API server does not take %+v", what, e)
			}
		}
		if len(r.waiting)+len(w.got) > 0 {
			t.Errorf("%s: more was told", what)
		}
	}
	name := func(n string) proxier.Owner {
		return proxier.Owner{Service: proxier.Name{Namespace: "default", Name: n}, Kind: proxier.ExternalIP}
	}
	first := proxier.Conflict{Frontend: frontend("192.0.2.9:80"), Loser: name("late"), Winner: name("web")}
	second := proxier.Conflict{Frontend: frontend("192.0.2.9:81"), Loser: name("late"), Winner: name("web")}

	const conflict = "default/late Warning FrontendConflict 192.0.2.9:%d/tcp (externalIP) is not served for this Service on node w-1: the older Service default/web has it"
	r.conflicts([]proxier.Conflict{first})
	told("a conflict", fmt.Sprintf(conflict, 80))
	r.conflicts([]proxier.Conflict{first, second})
	told("a second one", fmt.Sprintf(conflict, 81))
	r.conflicts([]proxier.Conflict{second})
	told("the first ended")
	r.conflicts([]proxier.Conflict{first, second})
	told("the first began anew", fmt.Sprintf(conflict, 80))
	fault := proxier.Fault{Service: name("web").Service, What: "no such scheduler"}
	r.faults([]proxier.Fault{fault})
	r.faults([]proxier.Fault{fault})
	told("a fault twice", "default/web Warning ServiceFault node w-1 ignores no such scheduler")
	r.deafPort(healthcheck.Fault{Port: 30000, Check: healthcheck.Check{Service: name("web").Service}, Err: errors.New("in use")})
	told("a port", "default/web Warning FailedToStartServiceHealthcheck node w-1 cannot answer health checks on port 30000: in use")
	r.warnNode("FirewallDrops", "Inspect", "INPUT drops 100 % of packets")
	told("a node", "default/w-1 Warning FirewallDrops INPUT drops 100 % of packets")
}

// TestReporterIsNeverInTheWay: nobody takes events, and there is no end of them.
func TestReporterIsNeverInTheWay(t *testing.T) {
	r := newReporter("w-1", slog.New(slog.DiscardHandler))
	for range 2 * eventsWaiting {
		r.warnNode("Reason", "Action", strings.Repeat("long ", longestNote))
	}
	e := <-r.waiting
	if len(r.waiting) != eventsWaiting-1 || len(e.Note) != longestNote {
		t.Errorf("%d events wait, a note has %d bytes", len(r.waiting)+1, len(e.Note))
	}
}

// TestEventsAreToldOncePerRestart: the same event has the same name.
func TestEventsAreToldOncePerRestart(t *testing.T) {
	names := map[string]bool{}
	for _, what := range []string{"a", "a", "b"} {
		r := newReporter("w-1", slog.New(slog.DiscardHandler))
		r.faults([]proxier.Fault{{Service: proxier.Name{Namespace: "default", Name: "web"}, What: what}})
		names[(<-r.waiting).Name] = true
	}
	if len(names) != 2 {
		t.Errorf("names %v, want 2", names)
	}
}

func TestLostEvents(t *testing.T) {
	for _, c := range []struct {
		err    error
		logged bool
	}{{nil, false}, {apierrors.NewAlreadyExists(eventsv1.Resource("events"), "x"), false}, {errors.New("no"), true}} {
		var log strings.Builder
		r := newReporter("w-1", slog.New(slog.NewTextHandler(&log, nil)))
		r.send(t.Context(), &written{got: make(chan *eventsv1.Event, 1), fail: c.err}, &eventsv1.Event{})
		if got := log.Len() > 0; got != c.logged {
			t.Errorf("%v: logged %q", c.err, &log)
		}
	}
}

func TestRefusals(t *testing.T) {
	owner := func(f proxier.Frontend) (proxier.Owner, bool) {
		return proxier.Owner{Service: proxier.Name{Namespace: "default", Name: "web"}}, f == frontend("10.96.0.7:80")
	}
	change := func(verb proxier.Verb, f string, err error) *proxier.ChangeError {
		return &proxier.ChangeError{Change: proxier.ServerChange{Verb: verb, Frontend: frontend(f), Options: proxier.Options{Scheduler: "fo"}}, Err: err}
	}
	err := fmt.Errorf("a pass: %w", proxier.Refused{
		change(proxier.AddServer, "10.96.0.7:80", syscall.ENOENT), change(proxier.AddServer, "10.96.0.8:80", syscall.ENOENT), change(proxier.DelServer, "10.96.0.7:80", syscall.ESRCH)})
	var got []string
	for _, f := range refusals(err, owner) {
		got = append(got, f.Service.String()+": "+f.What)
	}
	want := []string{
		"default/web: add server 10.96.0.7:80/tcp fo flags 0x0 timeout 0s: no such file or directory (does it have the scheduler fo, as a module ip_vs_fo or built in?)",
		"default/web: delete server 10.96.0.7:80/tcp: no such process",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := refusals(errors.New("no"), owner); got != nil {
		t.Errorf("another error: %v", got)
	}
	r := newReporter("w-1", slog.New(slog.DiscardHandler))
	for range 2 {
		r.refusals(refusals(err, owner))
	}
	if len(r.waiting) != len(want) {
		t.Errorf("%d events, want %d", len(r.waiting), len(want))
	}
}
