// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-project/muster/proxier"
)

// How long something may go wrong before /healthz and /livez say so.
const (
	beatTimeout    = time.Minute
	failingTimeout = 30 * time.Second
)

// taintToBeDeleted is what the cluster autoscaler puts on a node it is about
// to delete; load balancers should then stop sending to it.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// health knows whether the proxier does its work. Safe for concurrent use.
type health struct {
	now func() time.Time

	mu       sync.Mutex
	beatAt   time.Time
	syncedAt time.Time // zero before the first
	failing  time.Time // since when; zero is not
	failure  error
	leaving  bool
}

func newHealth(now func() time.Time) *health { return &health{now: now, beatAt: now()} }

func (h *health) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beatAt = h.now()
}

func (h *health) report(r proxier.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = r.Err
	if r.Err == nil {
		h.syncedAt, h.failing = h.now(), time.Time{}
	} else if h.failing.IsZero() {
		h.failing = h.now()
	}
}

func (h *health) node(n *corev1.Node) {
	leaving := n.DeletionTimestamp != nil
	for _, t := range n.Spec.Taints {
		leaving = leaving || t.Key == taintToBeDeleted
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = leaving
}

// status is the body of an answer, with kube-proxy's two times.
type status struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	Alive       bool      `json:"alive"`
	Synced      bool      `json:"synced"`
	NodeStays   bool      `json:"nodeEligible"`
	Error       string    `json:"error,omitempty"`
}

func (h *health) status() status {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	s := status{
		LastUpdated: h.syncedAt,
		CurrentTime: now,
		Alive:       now.Sub(h.beatAt) < beatTimeout,
		Synced:      !h.syncedAt.IsZero() && (h.failing.IsZero() || now.Sub(h.failing) < failingTimeout),
		NodeStays:   !h.leaving,
	}
	if h.failure != nil {
		s.Error = h.failure.Error()
	}
	return s
}

// handler answers /healthz, which asks whether traffic should come here, and
// /livez, which asks whether this process should go on.
func (h *health) handler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, good func(status) bool) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			s := h.status()
			code := http.StatusServiceUnavailable
			if good(s) {
				code = http.StatusOK
			}
			m.asked(path, code)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(s) // a client that went away is no fault
		})
	}
	answer("/healthz", func(s status) bool { return s.Alive && s.Synced && s.NodeStays })
	answer("/livez", func(s status) bool { return s.Alive })
	return mux
}
