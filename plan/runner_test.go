// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan"
)

func TestRunnerReports(t *testing.T) {
	f := newFleet(t)
	f.events["b/1"] = []protocol.Event{{State: protocol.Right}, {State: protocol.Right}, {State: protocol.Changed}}
	r := plan.Runner{Agent: f.agent}
	report, err := r.Run(t.Context(), plan.Plan{Tasks: []plan.Task{task("a/1"), task("b/1", "a/1")}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Changed != 2 || report.Right != 2 || report.Tasks[1].Changed != 1 || f.check {
		t.Errorf("got %+v, check %t", report, f.check)
	}
}

func TestRunnerRefusesBadPlan(t *testing.T) {
	f := newFleet(t)
	r := plan.Runner{Agent: f.agent}
	if _, err := r.Run(t.Context(), plan.Plan{Tasks: []plan.Task{task("a/1"), task("a/2", "a/3")}}); err == nil || len(f.log) > 0 {
		t.Errorf("got %v after %v", err, f.log)
	}
}

// Two hosts of three are in trouble, each in its own way: both causes are
// found by errors.Is and As, and the third is finished.
func TestRunnerLosesNoError(t *testing.T) {
	f := newFleet(t)
	refused, broke := errors.New("connection refused"), errors.New("connection broke off")
	f.down["a"] = refused
	f.breaks["b/etcd"] = broke
	f.events["c/etcd"] = failing("c/etcd")
	r := plan.Runner{Agent: f.agent}
	p := plan.Plan{Tasks: []plan.Task{
		task("a/etcd"), task("b/etcd"), task("c/etcd"), task("d/etcd"), task("a/kubelet", "a/etcd"), task("d/kubelet", "d/etcd"),
	}}
	report, err := r.Run(t.Context(), p)
	if !errors.Is(err, refused) || !errors.Is(err, broke) {
		t.Errorf("causes are lost: %v", err)
	}
	want := "a: etcd: connection refused\nb: etcd: connection broke off\nc: etcd: second of c/etcd: no room"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var failed *plan.Error
	if !errors.As(report.Tasks[2].Err, &failed) || !reflect.DeepEqual(failed.Evidence, []string{"c/etcd: disk full"}) {
		t.Errorf("got %+v", report.Tasks[2])
	}
	if !errors.Is(report.Tasks[4].Err, plan.ErrNotRun) || report.Tasks[5].Err != nil || !f.ran("d/kubelet") {
		t.Errorf("got %+v", report.Tasks)
	}
}

func TestRunnerChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		f.takes["a/1"], f.takes["b/1"] = time.Second, time.Second
		f.events["a/1"] = []protocol.Event{{Text: "file /x", State: protocol.Would}, {Text: "file /y", State: protocol.Right}}
		f.events["b/1"] = []protocol.Event{{Text: "trust", State: protocol.Unknown}}
		f.down["c"] = errors.New("no route to host")
		r := plan.Runner{Agent: f.agent, Check: true}
		p := plan.Plan{Tasks: []plan.Task{task("c/1"), task("a/1", "c/1"), task("b/1", "a/1")}}
		report, err := r.Run(t.Context(), p)
		if !errors.Is(err, f.down["c"]) || !f.check {
			t.Errorf("got %v, check %t", err, f.check)
		}
		if !reflect.DeepEqual(report.Tasks[1].Would, []string{"file /x"}) || !reflect.DeepEqual(report.Tasks[2].Would, []string{"trust"}) {
			t.Errorf("got %+v", report.Tasks)
		}
		if report.Took != time.Second {
			t.Errorf("took %s: looking waits for nobody", report.Took)
		}
	})
}

func TestRunnerEventsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		var p plan.Plan
		for i := range 40 {
			id := fmt.Sprintf("h%d/p", i)
			f.takes[id] = time.Millisecond
			p.Tasks = append(p.Tasks, task(id))
		}
		f.events["h7/p"] = failing("h7/p")
		var inside atomic.Int32
		seen := map[plan.ID][]plan.Kind{}
		r := plan.Runner{Agent: f.agent, Events: func(e plan.Event) {
			if inside.Add(1) != 1 {
				t.Error("two events at a time")
			}
			runtime.Gosched() // room for a second one
			seen[e.Task.ID()] = append(seen[e.Task.ID()], e.Kind)
			if e.Kind == plan.TaskFinished && (e.Err != nil) != (e.Task.Host == "h7") {
				t.Errorf("%s finished with %v", e.Task.ID(), e.Err)
			}
			inside.Add(-1)
		}}
		if _, err := r.Run(t.Context(), p); err == nil {
			t.Error("no error")
		}
		for _, task := range p.Tasks {
			want := []plan.Kind{plan.TaskStarted, plan.StepSaid, plan.StepSaid, plan.TaskFinished}
			if got := seen[task.ID()]; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %v", task.ID(), got)
			}
		}
	})
}

func TestRunnerBoundsEachHost(t *testing.T) {
	for _, c := range []struct{ perHost, want int }{{0, 8}, {1, 1}, {3, 3}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t)
			var p plan.Plan
			for i := range 12 {
				for _, host := range []string{"a", "b"} {
					id := fmt.Sprintf("%s/p/%d", host, i)
					f.takes[id] = time.Second
					p.Tasks = append(p.Tasks, task(id))
				}
			}
			r := plan.Runner{Agent: f.agent, PerHost: c.perHost}
			report, err := r.Run(t.Context(), p)
			if err != nil || f.peak["a"] != c.want || f.peak["b"] != c.want {
				t.Errorf("PerHost %d: peaks %v, %v", c.perHost, f.peak, err)
			}
			if want := time.Duration((12+c.want-1)/c.want) * time.Second; report.Took != want {
				t.Errorf("PerHost %d: took %s, want %s: hosts work side by side", c.perHost, report.Took, want)
			}
		})
	}
}

// A cancelled run ends at once, starts nothing more, and says why once.
func TestRunnerCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		p := plan.Plan{Tasks: []plan.Task{task("a/1"), task("a/2", "a/1"), task("a/3", "a/2"), task("b/1"), task("b/2"), task("b/3")}}
		for _, t := range p.Tasks {
			f.takes[string(t.ID())] = time.Hour
		}
		why := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(90*time.Minute, func() { cancel(why) })
		r := plan.Runner{Agent: f.agent, PerHost: 1}
		report, err := r.Run(ctx, p)
		if report.Took != 90*time.Minute || !errors.Is(err, why) {
			t.Errorf("took %s: %v", report.Took, err)
		}
		if f.ran("a/3") || len(f.log) != 8 { // a/1, a/2 and two of b's began and ended
			t.Errorf("tasks began after the end: %v", f.log)
		}

		never, cancelNow := context.WithCancelCause(t.Context())
		cancelNow(why)
		f = newFleet(t)
		f.down["a"] = why
		r.Agent = f.agent
		_, err = r.Run(never, plan.Plan{Tasks: []plan.Task{task("b/0", "a/1"), task("a/1"), task("b/1", "a/1"), task("b/2", "b/1")}})
		if !errors.Is(err, why) || strings.Count(err.Error(), why.Error()) != 1 || len(f.log) > 0 {
			t.Errorf("cancelled before the start: %v, %v", err, f.log)
		}
	})
}

// A run that was cancelled after its last task is a run that succeeded.
func TestRunnerCancelledTooLate(t *testing.T) {
	f := newFleet(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := plan.Runner{Agent: f.agent, Events: func(e plan.Event) {
		if e.Kind == plan.TaskFinished {
			cancel()
		}
	}}
	if _, err := r.Run(ctx, plan.Plan{Tasks: []plan.Task{task("a/1")}}); err != nil {
		t.Error(err)
	}
}

// Any plan, any failures: see model for what must come of it.
func TestRunnerRandomPlans(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t)
			random := rand.New(rand.NewPCG(seed, 0))
			p := randomPlan(f, random)
			m := newModel(f, p)
			r := plan.Runner{Agent: f.agent, PerHost: 1 + random.IntN(len(p.Tasks))}
			unbounded := r.PerHost == len(p.Tasks)
			report, err := r.Run(t.Context(), p)
			f.inOrder(p)
			for _, task := range report.Tasks {
				id := task.Task.ID()
				if got := outcomeOf(task.Err); got != m.outcome[id] || f.ran(id) != m.begins(id) {
					t.Errorf("seed %d: %s: %s (begun: %t), want %s", seed, id, got, f.ran(id), m.outcome[id])
				}
				if m.outcome[id] == failed && !errors.Is(err, m.cause(id)) {
					t.Errorf("seed %d: the error of %s is lost: %v", seed, id, err)
				}
			}
			for host, peak := range f.peak {
				if peak > r.PerHost {
					t.Errorf("seed %d: %d tasks at a time on %s, bound %d", seed, peak, host, r.PerHost)
				}
			}
			if unbounded && report.Took != m.longest {
				t.Errorf("seed %d: took %s, longest chain %s", seed, report.Took, m.longest)
			}
		})
	}
}
