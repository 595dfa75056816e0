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

// beatTimeout is how long the loop may stand still at least before it counts
// as hanging: a large cold start takes a while on a small machine.
const beatTimeout = time.Minute

// taintToBeDeleted is what the cluster autoscaler puts on a node it is about
// to delete; load balancers should then stop sending to it.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// health knows whether the proxier does its work. Safe for concurrent use.
type health struct {
	now     func() time.Time
	timeout time.Duration // for a change to reach the kernel

	mu       sync.Mutex
	beatAt   time.Time
	syncedAt time.Time // zero before the first
	failing  time.Time // since when; zero is not
	failure  error
	eligible bool // there is a Node, and it stays
}

func newHealth(now func() time.Time, timeout time.Duration) *health {
	return &health{now: now, timeout: timeout, beatAt: now()}
}

func (h *health) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beatAt = h.now()
}

func (h *health) report(r proxier.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = r.Err
	if inForce(r) {
		h.syncedAt, h.failing = h.now(), time.Time{}
	} else if h.failing.IsZero() {
		h.failing = h.now()
	}
}

// inForce reports whether a pass did its work. What the kernel refuses of
// single Services, say for a scheduler it does not have, is told at these; the
// node is not to blame, and the other Services must not lose it.
func inForce(r proxier.Report) bool {
	_, refused := r.Err.(proxier.Refused) //nolint:errorlint // joined with another error, it is not all that went wrong
	return r.Err == nil || refused
}

// node tells this node's object; nil is that there is none.
func (h *health) node(n *corev1.Node) {
	eligible := n != nil && n.DeletionTimestamp.IsZero()
	if eligible {
		for _, t := range n.Spec.Taints {
			eligible = eligible && t.Key != taintToBeDeleted
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eligible = eligible
}

// works reports whether the proxier does its work: the loop turns, and no
// change waits for the kernel longer than the timeout.
func (h *health) works() bool { return h.status().Healthy }

// status is the body of an answer, with kube-proxy's names.
type status struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyStatus `json:"status,omitempty"`
	Error        string                  `json:"error,omitempty"`

	synced bool
}

// familyStatus is the same for both families here: one pass is for both.
type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

func (h *health) status() status {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	alive := now.Sub(h.beatAt) < max(h.timeout, beatTimeout)
	s := status{
		LastUpdated: h.syncedAt,
		CurrentTime: now,
		Healthy:     alive && (h.failing.IsZero() || now.Sub(h.failing) < h.timeout),
		synced:      !h.syncedAt.IsZero(),
	}
	if s.synced {
		family := familyStatus{h.syncedAt, s.Healthy}
		s.Status = map[string]familyStatus{string(corev1.IPv4Protocol): family, string(corev1.IPv6Protocol): family}
	}
	if s.Healthy {
		// Since nothing waits, everything is as of now (as kube-proxy says it).
		s.LastUpdated = now
	}
	if h.failure != nil {
		s.Error = h.failure.Error()
	}
	return s
}

func (h *health) nodeEligible() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.eligible
}

// handler answers /healthz, which asks whether traffic should come here, and
// /livez, which asks whether this process should go on. Before the first pass
// /healthz says no, where kube-proxy says yes: nothing is served yet.
func (h *health) handler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		s, eligible := h.status(), h.nodeEligible()
		s.NodeEligible = &eligible
		s.write(w, m, "/healthz", s.Healthy && s.synced && eligible)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		s := h.status()
		s.write(w, m, "/livez", s.Healthy)
	})
	return mux
}

func (s status) write(w http.ResponseWriter, m *metrics, path string, good bool) {
	code := http.StatusServiceUnavailable
	if good {
		code = http.StatusOK
	}
	m.asked(path, code)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(s) // a client that went away is no fault
}
