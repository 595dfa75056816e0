// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

func findings() []preflight.Finding {
	return []preflight.Finding{
		{Host: "cp-1", Check: "cpus", Severity: preflight.Warning, Measured: "1 CPU", Wanted: "2 CPUs on control-plane hosts", Remedy: "works, slowly"},
		{Host: "w-1", Check: "kernel-features", Severity: preflight.Error, Measured: "missing overlay, bridge-nf", Wanted: "overlay, bridge-nf, seccomp, conntrack",
			Remedy: "install a kernel that has them, such as the distribution's standard one"},
		{Host: "w-1", Check: "swap", Severity: preflight.Error, Measured: "512 MiB of swap", Wanted: "no swap", Remedy: "swapoff -a, and remove it from /etc/fstab"},
	}
}

func TestReport(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		if err := report(&out, format, 2, findings()); err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, "check."+format+".golden", out.Bytes())
	}
	var out bytes.Buffer
	if err := report(&out, "json", 2, nil); err != nil || !strings.Contains(out.String(), `"findings": []`) {
		t.Errorf("no findings are an empty list, not %s (%v)", out.String(), err)
	}
}

func reportOf(tasks ...plan.TaskReport) plan.Report {
	return plan.Report{Took: 1234 * time.Millisecond, Right: 7, Tasks: tasks}
}

func TestPrintPlan(t *testing.T) {
	r := reportOf(
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "etcd", Part: "install"}},
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "etcd"}, Would: []string{"file /etc/muster/etcd.yaml", "unit etcd.service"}},
	)
	for name, print := range map[string]func(*bytes.Buffer) error{
		"plan.text":         func(b *bytes.Buffer) error { return printPlan(b, r) },
		"plan.json":         func(b *bytes.Buffer) error { return printPlanJSON(b, r) },
		"plan-nothing.text": func(b *bytes.Buffer) error { return printPlan(b, reportOf()) },
		"plan-nothing.json": func(b *bytes.Buffer) error { return printPlanJSON(b, reportOf()) },
	} {
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, name+".golden", out.Bytes())
	}
}

func TestPrintReport(t *testing.T) {
	changed := reportOf(
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "cert"}, Begin: 200 * time.Millisecond, Took: time.Second, Changed: 3},
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "etcd"}, Begin: time.Second, Took: 2 * time.Second, Changed: 2},
	)
	changed.Changed = 5
	for name, r := range map[string]plan.Report{"run": changed, "run-nothing": reportOf()} {
		var out, errOut bytes.Buffer
		if err := printReport(streams{nil, &out, &errOut}, r, 12_345_678); err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, name+".golden", []byte("stdout:\n"+out.String()+"stderr:\n"+errOut.String()))
	}
}

func TestPrintError(t *testing.T) {
	step5 := &plan.Error{Host: "w-1", Phase: "kubelet", Step: "unit kubelet.service", Cause: errors.New("it failed to start"),
		Evidence: []string{"kubelet.service: enabled=true active=false sub=failed", "kubelet.service: E0101 no cpu MHz"}}
	plain := &plan.Error{Host: "w-2", Phase: "cert", Step: "directory /etc/kubernetes", Cause: errors.New("read-only file system")}
	var errOut bytes.Buffer
	printError(streams{nil, nil, &errOut}, errors.Join(step5, plain, &operator.HostError{Host: "w-3", Err: errors.New("gone")}))
	golden.Equal(t, "errors.golden", errOut.Bytes())
}

func TestPrintStatus(t *testing.T) {
	var out bytes.Buffer
	err := printStatus(&out, clusterStatus{Hosts: []hostStatus{
		{Name: "cp-1", Address: "192.0.2.1", Roles: []string{"control-plane", "etcd"}, Node: "Ready", Version: "v1.36.3"},
		{Name: "w-1", Address: "192.0.2.2", Roles: []string{"worker"}, Node: "NotReady", Version: "v1.36.3", Units: []string{"kubelet.service failed"}},
		{Name: "w-2", Address: "192.0.2.3", Roles: []string{"worker"}, Node: "absent", Error: "reach 192.0.2.3:22: no route"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "status.golden", out.Bytes())
}

func TestParseNodes(t *testing.T) {
	nodes, err := parseNodes([]byte(`{"items": [
		{"metadata": {"name": "a"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.3"}, "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]}},
		{"metadata": {"name": "b"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}]}`))
	if err != nil || len(nodes) != 2 || nodes["a"] != (node{"Ready", "v1.36.3"}) || nodes["b"] != (node{"NotReady", ""}) {
		t.Errorf("%v, %v", nodes, err)
	}
	if _, err := parseNodes([]byte("Unable to connect")); err == nil {
		t.Error("what is not JSON was parsed")
	}
}

// The phases of the command line are those of the one list, in its order.
func TestPhaseCommands(t *testing.T) {
	commands := newPhaseCommand(streams{}).Commands()
	byName := map[string]bool{}
	for _, c := range commands {
		byName[c.Name()] = true
	}
	for _, p := range all.Phases() {
		if !byName[p.Name()] {
			t.Errorf("muster phase has no %s", p.Name())
		}
	}
	if len(commands) != len(all.Phases()) {
		t.Errorf("muster phase has %d commands for %d phases", len(commands), len(all.Phases()))
	}
}

func TestTaskLine(t *testing.T) {
	task := plan.Task{Host: "w-1", Phase: "cni", Part: "ready", Steps: step.List{}}
	for want, err := range map[string]error{
		"  61.5s  w-1          cni (ready)                      done in 2.0s":    nil,
		"  61.5s  w-1          cni (ready)                      not run in 2.0s": plan.ErrNotRun,
		"  61.5s  w-1          cni (ready)                      FAILED in 2.0s":  errors.New("no"),
	} {
		if got := taskLine(61500*time.Millisecond, plan.Event{Task: task, Took: 2 * time.Second, Err: err}, false); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
