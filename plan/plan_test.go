// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// task makes a task of host/phase[/part] with one step that names it.
func task(id string, needs ...plan.ID) plan.Task {
	parts := append(strings.Split(id, "/"), "")
	return plan.Task{Host: parts[0], Phase: parts[1], Part: parts[2], Needs: needs, Steps: step.List{step.Absent{Path: id}}}
}

func TestID(t *testing.T) {
	for _, id := range []plan.ID{"w-1/kubelet", "cp-1/cert/leaves"} {
		if got := task(string(id)).ID(); got != id {
			t.Errorf("got %s, want %s", got, id)
		}
	}
}

func TestAbout(t *testing.T) {
	at := task("cp-1/kubelet/label-w-1")
	if at.About() != "cp-1" {
		t.Errorf("without For: %s", at.About())
	}
	at.For = "w-1"
	if at.About() != "w-1" {
		t.Errorf("with For: %s", at.About())
	}
}

func TestCheck(t *testing.T) {
	cases := []struct {
		name  string
		tasks []plan.Task
		want  string // of the error; empty for none
	}{
		{"empty", nil, ""},
		{"diamond, needs before what needs them", []plan.Task{task("a/4", "a/2", "a/3"), task("a/2", "a/1"), task("a/3", "a/1"), task("a/1")}, ""},
		{"twice", []plan.Task{task("a/1"), task("b/1"), task("a/1")}, "two tasks are called a/1"},
		{"same phase, other part", []plan.Task{task("a/1"), task("a/1/x")}, ""},
		{"missing", []plan.Task{task("a/1", "b/1")}, "a/1 needs b/1, which is not in the plan"},
		{"itself", []plan.Task{task("a/1", "a/1")}, "tasks need each other: a/1 -> a/1"},
		{"cycle", []plan.Task{task("a/0"), task("a/1", "a/2"), task("a/2", "a/0", "a/3"), task("a/3", "a/1")},
			"tasks need each other: a/1 -> a/2 -> a/3 -> a/1"},
		{"cycle behind a shared need", []plan.Task{task("a/1", "a/2"), task("a/2"), task("a/3", "a/2", "a/4"), task("a/4", "a/3")},
			"tasks need each other: a/3 -> a/4 -> a/3"},
	}
	for _, c := range cases {
		err := plan.Plan{Tasks: c.tasks}.Check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestOnly(t *testing.T) {
	whole := plan.Plan{Cluster: "demo", Tasks: []plan.Task{task("a/1"), task("b/1", "a/1"), task("b/2", "a/1", "b/1")}}
	got := whole.Only(func(t plan.Task) bool { return t.Host == "b" })
	want := plan.Plan{Cluster: "demo", Tasks: []plan.Task{task("b/1"), task("b/2", "b/1")}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	if len(whole.Tasks[2].Needs) != 2 {
		t.Errorf("the whole plan changed: %+v", whole)
	}
}

func TestHosts(t *testing.T) {
	p := plan.Plan{Tasks: []plan.Task{task("w-2/1"), task("cp-1/1"), task("w-2/2"), task("cp-1/2")}}
	if got := p.Hosts(); !reflect.DeepEqual(got, []string{"cp-1", "w-2"}) {
		t.Errorf("got %v", got)
	}
}

// A plan can be saved and read again.
func TestPlanIsData(t *testing.T) {
	want := plan.Plan{Cluster: "demo", Tasks: []plan.Task{task("a/1"), task("b/1/x", "a/1")}}
	want.Tasks[1].For = "c"
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got plan.Plan
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
