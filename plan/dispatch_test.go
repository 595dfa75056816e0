// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// What a host is brought comes one after the other, first in the plan first,
// while its other tasks go on beside; another host is not held up.
func TestRunnerBringsInPlanOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		bring := func(id string, needs ...plan.ID) plan.Task {
			tk := task(id, needs...)
			tk.Steps = append(tk.Steps, step.Install{Path: "/" + id, Blob: step.Blob{Transfer: 10 << 20}})
			f.takes[id] = 10 * time.Second
			return tk
		}
		f.takes["a/wait"] = time.Second
		p := plan.Plan{Tasks: []plan.Task{
			task("a/first"), bring("a/1", "a/first"), bring("a/2", "a/first"), bring("a/3"), task("a/wait"), bring("b/1"),
		}}
		var began []plan.ID
		r := plan.Runner{Agent: f.agent, Events: func(e plan.Event) {
			if e.Kind == plan.TaskStarted {
				began = append(began, e.Task.ID())
			}
		}}
		report, err := r.Run(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		var brought []plan.ID
		for _, id := range began {
			if slices.Contains([]plan.ID{"a/1", "a/2", "a/3"}, id) {
				brought = append(brought, id)
			}
		}
		// a/3 needs nothing and begins at once; then the plan's order counts.
		if want := []plan.ID{"a/3", "a/1", "a/2"}; !slices.Equal(brought, want) {
			t.Errorf("brought in order %v, want %v", brought, want)
		}
		if report.Took != 30*time.Second {
			t.Errorf("took %s, want 30s", report.Took)
		}
		if wait := report.Tasks[4]; wait.Begin != 0 {
			t.Errorf("a task that brings nothing began after %s", wait.Begin)
		}
	})
}
