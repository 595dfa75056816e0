// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

func hosts(manager, data string) step.Object {
	return step.Object{
		As: admin, Path: configMaps, Name: "muster-hosts", Manager: manager,
		YAML: "apiVersion: v1\nkind: ConfigMap\ndata: {" + data + "}\n",
	}
}

func apply(t *testing.T, w *steptest.World, s step.Step) {
	t.Helper()
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
}

// Several steps each hold a part of one object and leave the others' alone.
func TestObjectManagers(t *testing.T) {
	w := steptest.New(t)
	one, two := hosts("muster-w-1", "w-1: 10.0.0.21"), hosts("muster-w-2", "w-2: 10.0.0.22")
	apply(t, w, one)
	done(t, w, two, false)
	apply(t, w, two)
	done(t, w, one, true)
	done(t, w, two, true)
	want := map[string]any{"w-1": "10.0.0.21", "w-2": "10.0.0.22"}
	if got := w.API.Object(configMaps + "/muster-hosts")["data"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

// A field that left the plan is drift until it has left the object.
func TestObjectFieldLeaves(t *testing.T) {
	w := steptest.New(t)
	apply(t, w, hosts("", "a: x, b: y"))
	less := hosts("", "a: x")
	done(t, w, less, false)
	apply(t, w, less)
	done(t, w, less, true)
	if got := w.API.Object(configMaps + "/muster-hosts")["data"]; !reflect.DeepEqual(got, map[string]any{"a": "x"}) {
		t.Errorf("got %v", got)
	}
}

// Status, other owners' fields and version counters are not drift, and asking
// writes nothing.
func TestObjectIgnoresOthers(t *testing.T) {
	w := steptest.New(t)
	o := hosts("", "a: x")
	apply(t, w, o)
	path := configMaps + "/muster-hosts"
	w.API.Set(path, "Bound", "status", "phase")
	w.API.Set(path, "yes", "metadata", "annotations", "example.com/seen")
	writes := w.API.Writes
	done(t, w, o, true)
	if w.API.Writes != writes {
		t.Errorf("asking wrote %d times", w.API.Writes-writes)
	}
}

func TestObjectErrors(t *testing.T) {
	w := steptest.New(t)
	w.API.Fail = &step.StatusError{Code: 403, Message: "forbidden"}
	o := hosts("", "a: x")
	if now, err := o.Done(t.Context(), w.Host); now || !strings.Contains(fmt.Sprint(err), "API server: 403: forbidden") {
		t.Errorf("got %t, %v", now, err)
	}
	w.API.Fail = nil
	for _, body := range []string{`{`, `{"metadata":7}`, `{}`, `[]`} {
		w.API.Put(configMaps+"/muster-hosts", body)
		if now, err := o.Done(t.Context(), w.Host); now || err == nil {
			t.Errorf("object %s: %t, %v", body, now, err)
		}
	}
}

func TestIsNotFound(t *testing.T) {
	for err, want := range map[error]bool{
		&step.StatusError{Code: 404}:                          true,
		fmt.Errorf("get x: %w", &step.StatusError{Code: 404}): true,
		&step.StatusError{Code: 403}:                          false,
		errors.New("404"):                                     false,
	} {
		if got := step.IsNotFound(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

func TestRolloutExplains(t *testing.T) {
	w := steptest.New(t)
	r := step.Rollout{As: admin, Namespace: "kube-system", Name: "coredns", Min: 2, Timeout: 1}
	if got := r.Explain(t.Context(), w.Host); !strings.Contains(got[0], "not found") {
		t.Errorf("no pods: %q", got)
	}
	w.API.Put("/api/v1/namespaces/kube-system/pods", `{"items":[
		{"metadata":{"name":"ok"},"status":{"phase":"Running","conditions":[{"status":"True","message":"fine"}]}},
		{"metadata":{"name":"a"},"status":{"phase":"Pending","conditions":[{"status":"False","message":"0/1 nodes are available"}]}},
		{"metadata":{"name":"b"},"status":{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull","message":"no such host"}}},{"state":{}}]}}]}`)
	want := []string{"pod a: Pending: 0/1 nodes are available", "pod b: ErrImagePull: no such host"}
	if got := r.Explain(t.Context(), w.Host); !reflect.DeepEqual(got[:2], want) {
		t.Errorf("got %q", got)
	}
	w.API.Put("/api/v1/namespaces/kube-system/pods", `{`)
	if got := r.Explain(t.Context(), w.Host); !strings.Contains(got[0], "unexpected end of JSON") {
		t.Errorf("broken answer: %q", got)
	}
}

// The reason a node is not ready is what a person wants to read.
func TestNodeReadySaysWhy(t *testing.T) {
	w := steptest.New(t)
	w.Write(kubeletCert, 0o600, "")
	n := step.NodeReady{As: step.Credentials{Cert: kubeletCert}, Node: "w-1", Condition: "Ready", Timeout: 1}
	w.API.Put(nodePath, `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"no CNI"}]}}`)
	if _, err := n.Done(t.Context(), w.Host); err == nil || err.Error() != "KubeletNotReady: no CNI" {
		t.Errorf("got %v", err)
	}
}

// The evidence of each condition names the units that stand behind it.
func TestConditionsExplain(t *testing.T) {
	for _, c := range []struct {
		step step.Explainer
		want []string
	}{
		{step.Ready{}, []string{"etcd.service", "kube-apiserver.service"}},
		{step.NodeReady{}, []string{"containerd.service", "kubelet.service", "flanneld.service"}},
		{step.Resolves{}, []string{"muster-proxier.service"}},
		{step.Answers{}, []string{"muster-proxier.service"}},
		{step.Healthy{Unit: "etcd.service"}, []string{"etcd.service"}},
	} {
		w := steptest.New(t)
		lines := strings.Join(c.step.Explain(t.Context(), w.Host), "\n")
		for _, unit := range c.want {
			if !strings.Contains(lines, unit+": enabled=false active=false") {
				t.Errorf("%T: no %s in %q", c.step, unit, lines)
			}
		}
	}
}
