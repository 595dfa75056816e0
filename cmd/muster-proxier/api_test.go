// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// TestWhatTheServerIsAsked records the requests: what is not selected on the
// server travels to every node.
func TestWhatTheServerIsAsked(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		q := r.URL.Query()
		asked = append(asked, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, q.Get("labelSelector"), q.Get("fieldSelector"))))
		if !strings.HasPrefix(r.Header.Get("Accept"), protobuf) || !strings.HasPrefix(r.UserAgent(), "muster-proxier/") {
			t.Errorf("%s: accepts %q as %q", r.URL.Path, r.Header.Get("Accept"), r.UserAgent())
		}
		w.Header().Set("Content-Type", "application/json")
		version, kind := "v1", "ServiceList"
		if r.Method == http.MethodPost {
			version, kind = "events.k8s.io/v1", "Event"
		}
		if err := json.NewEncoder(w).Encode(metav1.TypeMeta{APIVersion: version, Kind: kind}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: x, cluster: {server: %q}}], contexts: [{name: x, context: {cluster: x}}]}", server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := connect(kubeClient{kubeconfig: kubeconfig, contentType: protobuf, qps: 100, burst: 100}, "w-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []cache.ListerWatcher{a.services, a.slices, a.nodes, a.cidrs} {
		if _, err := cache.ToListerWatcherWithContext(from).ListWithContext(t.Context(), metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	}
	event := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "x"}, Regarding: corev1.ObjectReference{Name: "x"}}
	if err := a.events.write(t.Context(), event); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET /api/v1/services !service.kubernetes.io/service-proxy-name spec.clusterIP!=None",
		"GET /apis/discovery.k8s.io/v1/endpointslices !service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
		"GET /api/v1/nodes  metadata.name=w-1",
		"GET /apis/networking.k8s.io/v1/servicecidrs",
		"POST /apis/events.k8s.io/v1/namespaces/kube-system/events",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestConnectFaults(t *testing.T) {
	if _, err := connect(kubeClient{kubeconfig: "testdata/none"}, "w-1"); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Errorf("a kubeconfig that is not there: %v", err)
	}
}
