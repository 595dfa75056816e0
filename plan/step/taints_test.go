// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// taintsSample: the node has a taint of a controller and one that muster gave
// it when the file was another.
func taintsSample() sample {
	others := map[string]any{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "timeAdded": "2026-11-20T12:00:00Z"}
	gpu := step.Taint{Key: "gpu", Value: "yes", Effect: "NoSchedule"}
	set := func(list ...any) func(world) { return func(w world) { w.API.Set(nodePath, list, "spec", "taints") } }
	return sample{
		kind: "taints",
		make: func(w world) step.Step {
			node := `{"apiVersion":"v1","kind":"Node","metadata":{"name":"w-1","annotations":{"muster/taints":` +
				`"[{\"key\":\"old\",\"effect\":\"NoSchedule\"}]"}},"spec":{"taints":[{"key":"old","effect":"NoSchedule"},` +
				`{"key":"node.kubernetes.io/not-ready","effect":"NoExecute","timeAdded":"2026-11-20T12:00:00Z"}]}}`
			if w.API.Object(nodePath) == nil {
				_, err := w.Host.API.Call(context.Background(), step.Credentials{}, step.Call{
					Method: http.MethodPost, Path: "/api/v1/nodes", ContentType: "application/json", Body: []byte(node),
				})
				if err != nil {
					panic(err)
				}
			}
			return step.Taints{Node: "w-1", Taints: []step.Taint{gpu}}
		},
		corrupt: map[string]func(world){
			"gone":          set(others),
			"other value":   set(others, map[string]any{"key": "gpu", "value": "no", "effect": "NoSchedule"}),
			"note was lost": func(w world) { w.API.Set(nodePath, "", "metadata", "annotations", "muster/taints") },
		},
		silence: silentAPI,
	}
}

// Taints that muster did not give stay, with all their fields; one that it
// gave and the file no longer has goes.
func TestTaintsLeaveOthersAlone(t *testing.T) {
	w := steptest.New(t)
	s := taintsSample().make(w)
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(w.API.Object(nodePath)["spec"])
	want := `{"taints":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","timeAdded":"2026-11-20T12:00:00Z"},` +
		`{"effect":"NoSchedule","key":"gpu","value":"yes"}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// A node that has just registered is written by its kubelet and by
// controllers meanwhile.
func TestTaintsOfABusyNode(t *testing.T) {
	w := steptest.New(t)
	s := taintsSample().make(w)
	w.Host.API = &busyAPI{w.API, nodePath, 3}
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Done(t.Context(), w.Host); err != nil || !done {
		t.Errorf("done: %t, %v", done, err)
	}
	w.Host.API = &busyAPI{w.API, nodePath, 1000}
	w.API.Set(nodePath, []any{}, "spec", "taints")
	if err := s.Do(t.Context(), w.Host); err == nil {
		t.Error("a node that never holds still was written")
	}
}
