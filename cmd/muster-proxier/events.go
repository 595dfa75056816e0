// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

// reporter tells the cluster what a person should know: an event at the
// object it is about. It is told as well as it can be; a lost event is in the
// log of this program too. The zero value tells nobody.
type reporter struct {
	node     string
	recorder events.EventRecorder

	mu         sync.Mutex
	conflicted news[proxier.Conflict]
	faulty     news[proxier.Fault]
}

// news tells what is in a list for the first time. What left the list and
// comes back is new again.
type news[T comparable] struct{ known map[T]struct{} }

func (n *news[T]) fresh(list []T) []T {
	now := map[T]struct{}{}
	var fresh []T
	for _, item := range list {
		if _, known := n.known[item]; !known {
			fresh = append(fresh, item)
		}
		now[item] = struct{}{}
	}
	n.known = now
	return fresh
}

// newReporter sends events until ctx ends.
func newReporter(ctx context.Context, client kubernetes.Interface, node string) (*reporter, error) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, err
	}
	return &reporter{node: node, recorder: broadcaster.NewRecorder(scheme.Scheme, "muster-proxier")}, nil
}

func serviceRef(n proxier.Name) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: n.Namespace, Name: n.Name}
}

func (r *reporter) nodeRef() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: r.node}
}

// warnNode tells something of the whole node.
func (r *reporter) warnNode(reason, action, note string) {
	if r.recorder != nil {
		r.recorder.Eventf(r.nodeRef(), nil, corev1.EventTypeWarning, reason, action, "%s", note)
	}
}

// deafPort tells, with kube-proxy's reason, that a load balancer gets no
// answer from this node.
func (r *reporter) deafPort(f healthcheck.Fault) {
	if r.recorder != nil {
		r.recorder.Eventf(serviceRef(f.Check.Service), nil, corev1.EventTypeWarning, "FailedToStartServiceHealthcheck", "Listen",
			"node %s cannot answer health checks on port %d: %v", r.node, f.Port, f.Err)
	}
}

// conflicts tells each Service once that another one has its address, and
// returns what was told.
func (r *reporter) conflicts(list []proxier.Conflict) []proxier.Conflict {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.conflicted.fresh(list)
	for _, c := range fresh {
		if r.recorder != nil {
			r.recorder.Eventf(serviceRef(c.Loser.Service), serviceRef(c.Winner.Service), corev1.EventTypeWarning, "FrontendConflict", "Serve",
				"%s (%s) is not served for this Service on node %s: the older Service %s has it", c.Frontend, c.Loser.Kind, r.node, c.Winner.Service)
		}
	}
	return fresh
}

// faults tells each Service once what it cannot have.
func (r *reporter) faults(list []proxier.Fault) []proxier.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.faulty.fresh(list)
	for _, f := range fresh {
		if r.recorder != nil {
			r.recorder.Eventf(serviceRef(f.Service), nil, corev1.EventTypeWarning, "ServiceFault", "Serve", "node %s ignores %s", r.node, f.What)
		}
	}
	return fresh
}
