// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/plan"
)

func TestPrintReportJSON(t *testing.T) {
	changed := reportOf(
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "cert", Part: "authorities"}, Begin: 200 * time.Millisecond, Took: time.Second, Changed: 3},
		plan.TaskReport{Task: plan.Task{Host: "cp-1", Phase: "etcd"}, Begin: time.Second + 4*time.Microsecond, Took: 2 * time.Second, Changed: 2},
	)
	changed.Changed = 5
	for name, r := range map[string]plan.Report{"run.json": changed, "run-nothing.json": reportOf()} {
		var out bytes.Buffer
		if err := printReportJSON(&out, r, 12_345_678); err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, name+".golden", out.Bytes())
	}
}
