// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-project/muster/proxier"
)

func TestHealth(t *testing.T) {
	const timeout = 30 * time.Second
	now := time.Unix(1_800_000_000, 0)
	h := newHealth(func() time.Time { return now }, timeout)
	handler := h.handler(newMetrics())
	ok, broken := proxier.Report{}, proxier.Report{Err: errors.New("no such file")}
	deleted := metav1.NewTime(now)
	for _, step := range []struct {
		what           string
		do             func()
		healthz, livez int
	}{
		{"starting", func() {}, 503, 200},
		{"a Node", func() { h.node(&corev1.Node{}) }, 503, 200},
		{"first pass", func() { h.report(ok) }, 200, 200},
		{"an error", func() { h.report(broken) }, 200, 200},
		{"errors for half a minute", func() { now = now.Add(timeout); h.beat(); h.report(broken) }, 503, 503},
		{"healed", func() { h.report(ok) }, 200, 200},
		{"one Service is refused", func() { h.report(proxier.Report{Err: proxier.Refused{}}) }, 200, 200},
		{"for long", func() {
			now = now.Add(time.Hour)
			h.beat()
			h.report(proxier.Report{Err: proxier.Refused{}})
		}, 200, 200},
		{"and something else went wrong", func() { h.report(proxier.Report{Err: errors.Join(proxier.Refused{}, errors.New("no"))}) }, 200, 200},
		{"for half a minute", func() {
			now = now.Add(timeout)
			h.beat()
			h.report(proxier.Report{Err: errors.Join(proxier.Refused{}, errors.New("no"))})
		}, 503, 503},
		{"healed again", func() { h.report(ok) }, 200, 200},
		{"about to be deleted", func() {
			h.node(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintToBeDeleted}}}})
		}, 503, 200},
		{"stays after all", func() { h.node(&corev1.Node{}) }, 200, 200},
		{"being deleted", func() { h.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &deleted}}) }, 503, 200},
		{"deleted", func() { h.node(nil) }, 503, 200},
		{"registered anew", func() { h.node(&corev1.Node{}) }, 200, 200},
		{"the loop hangs", func() { now = now.Add(beatTimeout) }, 503, 503},
		{"and turns again", func() { h.beat() }, 200, 200},
	} {
		step.do()
		for path, want := range map[string]int{"/healthz": step.healthz, "/livez": step.livez} {
			if got := get(handler, path).Code; got != want {
				t.Errorf("%s: %s says %d, want %d", step.what, path, got, want)
			}
		}
	}
}

// TestHealthBody checks the fields that programs know from kube-proxy.
func TestHealthBody(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	h := newHealth(func() time.Time { return now }, time.Minute)
	handler := h.handler(newMetrics())
	h.node(&corev1.Node{})
	h.report(proxier.Report{})
	synced := now
	type body struct {
		LastUpdated, CurrentTime time.Time
		NodeEligible             *bool
		Healthy                  bool
		Status                   map[string]struct {
			LastUpdated time.Time
			Healthy     bool
		}
	}
	ask := func(path string) (b body) {
		t.Helper()
		w := get(handler, path)
		if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%s answers %s, %v", path, w.Body, err)
		}
		return b
	}
	now = now.Add(time.Hour)
	h.beat()
	if b := ask("/healthz"); !b.Healthy || b.NodeEligible == nil || !*b.NodeEligible || !b.LastUpdated.Equal(now) || !b.CurrentTime.Equal(now) ||
		len(b.Status) != 2 || !b.Status["IPv4"].Healthy || !b.Status["IPv6"].LastUpdated.Equal(synced) {
		t.Errorf("healthy: %+v", b)
	}
	h.report(proxier.Report{Err: errors.New("no")})
	now = now.Add(time.Minute)
	h.beat()
	if b := ask("/livez"); b.Healthy || b.NodeEligible != nil || !b.LastUpdated.Equal(synced) || b.Status["IPv4"].Healthy {
		t.Errorf("unhealthy: %+v", b)
	}
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}
