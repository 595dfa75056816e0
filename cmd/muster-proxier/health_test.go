// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-project/muster/proxier"
)

func TestHealth(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := newHealth(func() time.Time { return now })
	handler := h.handler(newMetrics())
	ok, broken := proxier.Report{}, proxier.Report{Err: errors.New("no such file")}
	for _, step := range []struct {
		what           string
		do             func()
		healthz, livez int
	}{
		{"starting", func() {}, 503, 200},
		{"first pass", func() { h.report(ok) }, 200, 200},
		{"an error", func() { h.report(broken) }, 200, 200},
		{"errors for half a minute", func() { now = now.Add(failingTimeout); h.beat(); h.report(broken) }, 503, 200},
		{"healed", func() { h.report(ok) }, 200, 200},
		{"about to be deleted", func() {
			h.node(&corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintToBeDeleted}}}})
		}, 503, 200},
		{"stays after all", func() { h.node(&corev1.Node{}) }, 200, 200},
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

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestMetrics(t *testing.T) {
	m := newMetrics()
	h := newHealth(time.Now)
	get(h.handler(m), "/healthz")
	m.report(proxier.Report{Full: true, Why: "events were lost: too many", Changes: 7, Frontends: 3, Triggered: []time.Time{time.Now()}})
	m.report(proxier.Report{Err: errors.New("no"), Slices: 2})
	body, err := io.ReadAll(get(m.handler(), "/metrics").Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"kubeproxy_sync_proxy_rules_duration_seconds_count 2",
		"kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
		"kubeproxy_network_programming_duration_seconds_count 1",
		"kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
		`kubeproxy_proxy_healthz_total{code="503"} 1`,
		`muster_proxier_full_comparisons_total{why="events were lost"} 1`,
		"muster_proxier_kernel_changes_total 7",
		"muster_proxier_errors_total 1",
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if mode := get(m.handler(), "/proxyMode").Body.String(); mode != "ipvs" {
		t.Errorf("/proxyMode says %q", mode)
	}
}
