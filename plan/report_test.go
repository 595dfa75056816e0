// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/muster-project/muster/plan"
)

func TestPhases(t *testing.T) {
	ran := func(id string, begin, took time.Duration) plan.TaskReport {
		return plan.TaskReport{Task: task(id), Begin: begin, Took: took}
	}
	report := plan.Report{Tasks: []plan.TaskReport{
		ran("a/kubelet", 7, 5), ran("a/etcd", 2, 3), ran("b/etcd", 1, 9), ran("b/kubelet", 6, 1),
		{Task: task("c/cni"), Err: plan.ErrNotRun},
	}}
	want := []plan.PhaseTime{{Phase: "etcd", Begin: 1, End: 10}, {Phase: "kubelet", Begin: 6, End: 12}}
	if got := report.Phases(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
