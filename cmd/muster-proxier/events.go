// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

// Limits of what waits to be told, and of the API for the text of an event.
const (
	eventsWaiting = 64
	eventTimeout  = 10 * time.Second
	longestNote   = 1024
)

// eventWriter takes events to the API server.
type eventWriter interface {
	write(context.Context, *eventsv1.Event) error
}

// reporter tells the cluster what a person should know: an event at the
// object it is about. It is told as well as it can be; what is lost is in the
// log of this program too. Each thing is told once, so there are no series.
type reporter struct {
	node    string
	log     *slog.Logger
	waiting chan *eventsv1.Event

	mu         sync.Mutex
	conflicted news[proxier.Conflict]
	faulty     news[proxier.Fault]
	refused    news[proxier.Fault]
}

func newReporter(node string, log *slog.Logger) *reporter {
	return &reporter{node: node, log: log, waiting: make(chan *eventsv1.Event, eventsWaiting)}
}

// run sends events until ctx ends.
func (r *reporter) run(ctx context.Context, to eventWriter) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.waiting:
			r.send(ctx, to, e)
		}
	}
}

func (r *reporter) send(ctx context.Context, to eventWriter, e *eventsv1.Event) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	// Its name says what it tells: after a restart it is there already.
	if err := to.write(ctx, e); err != nil && !apierrors.IsAlreadyExists(err) {
		r.log.Warn("an event is not told", "reason", e.Reason, "about", e.Regarding.Name, "error", err)
	}
}

// warn queues an event. While the API server is away for long, events are
// dropped: nobody could read them.
func (r *reporter) warn(about corev1.ObjectReference, related *corev1.ObjectReference, reason, action, format string, args ...any) {
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	note := fmt.Sprintf(format, args...)
	e := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", about.Name, digest(r.node, reason, note))},
		EventTime:           metav1.NowMicro(),
		ReportingController: "muster-proxier",
		ReportingInstance:   r.node,
		Type:                corev1.EventTypeWarning,
		Reason:              reason,
		Action:              action,
		Note:                note[:min(len(note), longestNote)],
		Regarding:           about,
		Related:             related,
	}
	select {
	case r.waiting <- e:
	default:
	}
}

func digest(texts ...string) uint64 {
	h := fnv.New64a()
	for _, t := range texts {
		h.Write(append([]byte(t), 0))
	}
	return h.Sum64()
}

func serviceRef(n proxier.Name) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: n.Namespace, Name: n.Name}
}

// warnNode tells something of the whole node.
func (r *reporter) warnNode(reason, action, note string) {
	r.warn(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: r.node}, nil, reason, action, "%s", note)
}

// deafPort tells, with kube-proxy's reason, that a load balancer gets no
// answer from this node.
func (r *reporter) deafPort(f healthcheck.Fault) {
	r.warn(serviceRef(f.Check.Service), nil, "FailedToStartServiceHealthcheck", "Listen",
		"node %s cannot answer health checks on port %d: %v", r.node, f.Port, f.Err)
}

// conflicts tells each Service once that another one has its address, and
// returns what was told.
func (r *reporter) conflicts(list []proxier.Conflict) []proxier.Conflict {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.conflicted.fresh(list)
	for _, c := range fresh {
		winner := serviceRef(c.Winner.Service)
		r.warn(serviceRef(c.Loser.Service), &winner, "FrontendConflict", "Serve",
			"%s (%s) is not served for this Service on node %s: the older Service %s has it", c.Frontend, c.Loser.Kind, r.node, c.Winner.Service)
	}
	return fresh
}

// faults tells each Service once what it cannot have.
func (r *reporter) faults(list []proxier.Fault) []proxier.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.faulty.fresh(list)
	for _, f := range fresh {
		r.warn(serviceRef(f.Service), nil, "ServiceFault", "Serve", "node %s ignores %s", r.node, f.What)
	}
	return fresh
}

// refusals tells each Service once what of it the kernel refuses.
func (r *reporter) refusals(list []proxier.Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.refused.fresh(list) {
		r.warn(serviceRef(f.Service), nil, "KernelRefused", "Serve", "the kernel of node %s refuses: %s", r.node, f.What)
	}
}

// refusals names the Services whose changes the kernel refused.
func refusals(err error, owner func(proxier.Frontend) (proxier.Owner, bool)) []proxier.Fault {
	var refused proxier.Refused
	if !errors.As(err, &refused) {
		return nil
	}
	var list []proxier.Fault
	for _, e := range refused {
		o, ours := owner(e.Change.Frontend)
		if !ours {
			continue
		}
		what := e.Error()
		if e.Change.Verb == proxier.AddServer && errors.Is(e.Err, unix.ENOENT) {
			what += fmt.Sprintf(" (does it have the scheduler %s, as a module ip_vs_%[1]s or built in?)", e.Change.Options.Scheduler)
		}
		list = append(list, proxier.Fault{Service: o.Service, What: what})
	}
	return list
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
