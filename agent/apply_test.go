// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

var (
	right   = step.File{Path: "/etc/right", Mode: 0o644, Data: "x"}
	wrong   = step.File{Path: "/etc/wrong", Mode: 0o644, Data: "x"}
	blocked = step.File{Path: "/etc/right/below/a/file", Mode: 0o644}
	later   = step.File{Path: "/etc/later", Mode: 0o644}
)

func TestApplyTellsEachStep(t *testing.T) {
	h := newHost(t)
	h.Write(right.Path, 0o644, "x")
	err := h.agent.Apply(t.Context(), step.List{right, wrong}, false, h.emit)
	want := "0 right file /etc/right\n1 started file /etc/wrong\n1 changed file /etc/wrong"
	if err != nil || states(h.events) != want {
		t.Errorf("got %v\n%s", err, states(h.events))
	}
	h.events = nil
	if err := h.agent.Apply(t.Context(), step.List{right, wrong}, false, h.emit); err != nil || !strings.HasSuffix(states(h.events), "1 right file /etc/wrong") {
		t.Errorf("second time: %v\n%s", err, states(h.events))
	}
}

// The first failure is the last event, and no step is begun after it.
func TestApplyStopsAtFailure(t *testing.T) {
	h := newHost(t)
	h.Write(right.Path, 0o644, "x")
	events, err := h.apply(right, blocked, later)
	if err == nil || len(events) != 2 || events[1].State != protocol.Failed || events[1].Index != 1 || events[1].Cause == "" {
		t.Errorf("got %v, %+v", err, events)
	}
	if h.Exists(later.Path) {
		t.Error("a step was done after the failure")
	}
}

// A unit that does not start brings its evidence.
func TestApplyBringsEvidence(t *testing.T) {
	h := newHost(t)
	h.Write("/etc/systemd/system/app.service", 0o644, "[Service]\n")
	h.Units.Broken["app.service"] = errors.New("exit 78")
	h.Exec.Journal["app.service"] = "no such option: --prot\n"
	events, err := h.apply(step.Unit{Name: "app.service"})
	want := []string{"app.service: enabled=true active=false sub=dead", "app.service: no such option: --prot"}
	if err == nil || !reflect.DeepEqual(events[0].Evidence, want) {
		t.Errorf("got %v, %+v", err, events)
	}
}

func TestApplyChecks(t *testing.T) {
	h := newHost(t)
	h.Write(right.Path, 0o644, "x")
	h.Write("/etc/systemd/system/app.service", 0o644, "[Service]\n")
	h.Units.Fail = errors.New("no answer")
	before := h.Tree()
	condition := step.Ready{Path: "/readyz", Timeout: time.Hour}
	err := h.agent.Apply(t.Context(), step.List{right, wrong, step.Unit{Name: "app.service"}, condition, later}, true, h.emit)
	want := "0 right file /etc/right\n1 would file /etc/wrong\n2 unknown unit app.service\n4 would file /etc/later"
	if err != nil || states(h.events) != want || h.Tree() != before {
		t.Errorf("got %v\n%s", err, states(h.events))
	}
}

func TestApplyCannotAsk(t *testing.T) {
	h := newHost(t)
	h.Units.Fail = errors.New("no answer")
	events, err := h.apply(step.Unit{Name: "app.service"})
	if err == nil || events[0].State != protocol.Failed || events[0].Cause != "look at it: no answer" {
		t.Errorf("got %v, %+v", err, events)
	}
}

// Nobody listens any more: the next step is not begun.
func TestApplyWithoutListener(t *testing.T) {
	h := newHost(t)
	gone := errors.New("the connection is gone")
	err := h.agent.Apply(t.Context(), step.List{wrong, later}, false, func(any) error { return gone })
	if !errors.Is(err, gone) || h.Exists(wrong.Path) || h.Exists(later.Path) {
		t.Errorf("got %v", err)
	}
}

func waiting(h *host, within time.Duration) step.Healthy {
	return step.Healthy{Argv: []string{"health"}, Unit: "app.service", Timeout: within}
}

func TestConditionInTime(t *testing.T) {
	h := newHost(t)
	asked := 0
	h.Exec.Programs["health"] = func(context.Context, io.Reader, []string) (string, error) {
		if asked++; asked < 3 {
			return "", errors.New("not yet")
		}
		return "", nil
	}
	h.mustApply(waiting(h, time.Minute))
	if got := states(h.events); got != "0 started health succeeds\n0 right health succeeds" || asked != 3 {
		t.Errorf("asked %d times:\n%s", asked, got)
	}
}

// Too late: the last reason is told. A question that hangs is cut off by the
// deadline and does not hide the reason before it.
func TestConditionTooLate(t *testing.T) {
	for name, hangs := range map[string]bool{"answers no": false, "hangs": true} {
		h := newHost(t)
		asked := 0
		h.Exec.Programs["health"] = func(ctx context.Context, _ io.Reader, _ []string) (string, error) {
			if asked++; asked > 1 && hangs {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "", errors.New("no leader")
		}
		events, err := h.apply(waiting(h, 250*time.Millisecond))
		if err == nil || events[0].State != protocol.Failed || events[0].Cause != "not within 250ms: no leader" || len(events[0].Evidence) == 0 {
			t.Errorf("%s: %v, %+v", name, err, events)
		}
	}
}

func TestConditionHangsFromTheStart(t *testing.T) {
	h := newHost(t)
	h.Exec.Programs["health"] = func(ctx context.Context, _ io.Reader, _ []string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	events, err := h.apply(waiting(h, 100*time.Millisecond))
	if err == nil || events[0].Cause != "not within 100ms" {
		t.Errorf("%v, %+v", err, events)
	}
}

func TestConditionCancelled(t *testing.T) {
	h := newHost(t)
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	h.Exec.Programs["health"] = func(context.Context, io.Reader, []string) (string, error) {
		cancel(why)
		return "", errors.New("no")
	}
	if err := h.agent.Apply(ctx, step.List{waiting(h, time.Hour)}, false, h.emit); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// Several tasks of a host share one agent and one journal.
func TestApplySideBySide(t *testing.T) {
	h := newHost(t)
	before := h.Tree("/run")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			var steps step.List
			for k := range 10 {
				steps = append(steps, step.File{Path: fmt.Sprintf("/etc/app/%d/%d", k, i), Mode: 0o644, Data: "x"})
			}
			if err := h.agent.Apply(t.Context(), steps, false, func(any) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	h.open()
	h.reset()
	if after := h.Tree("/run"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}
