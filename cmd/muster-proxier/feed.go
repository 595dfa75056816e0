// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/muster-project/muster/proxier"
)

// feed passes on the objects of one kind as the API server tells them. It is
// what a reflector writes to, and keeps their names and versions only: the
// Model has what it needs of them, and a cache of whole objects would be most
// of this program's memory.
type feed[T object] struct {
	set  func(T)            // new or changed
	gone func(proxier.Name) // deleted, or no longer selected

	known  map[proxier.Name]string // resource version
	synced chan struct{}           // closed when all objects were told once
	once   sync.Once
}

// object is a pointer to an API type.
type object interface {
	metav1.Object
	runtime.Object
}

var _ cache.TransformingStore = (*feed[object])(nil)

func newFeed[T object](set func(T), gone func(proxier.Name)) *feed[T] {
	return &feed[T]{set: set, gone: gone, known: map[proxier.Name]string{}, synced: make(chan struct{})}
}

// run follows the API until ctx ends. A server that cannot be reached is
// tried again; what was learnt stays in force meanwhile. Nothing is ever
// listed again on a timer: the proxier verifies the kernel, and watches lose
// nothing.
func (f *feed[T]) run(ctx context.Context, from cache.ListerWatcher, kind T) {
	cache.NewReflectorWithOptions(from, kind, f, cache.ReflectorOptions{Backoff: retries()}).RunWithContext(ctx)
}

// retries are the pauses while the API server is away, each up to twice as
// long by chance. The usual most of 30 seconds would leave Services as they
// were for two minutes after a long outage: the first watch may be refused as
// too old.
func retries() *wait.Backoff {
	return &wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 10 * time.Second}
}

// runIfServed is run for a kind that not every API server has, or lets this
// program see: where others of its kinds are there and this one is refused,
// it counts as told. It may come with an upgrade of the cluster.
func (f *feed[T]) runIfServed(ctx context.Context, from cache.ListerWatcher, kind T, others <-chan struct{}) {
	for ctx.Err() == nil {
		_, err := cache.ToListerWatcherWithContext(from).ListWithContext(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			f.run(ctx, from, kind)
			return
		}
		pause := time.Second
		if errors.IsNotFound(err) || errors.IsForbidden(err) && closed(others) {
			f.once.Do(func() { close(f.synced) })
			pause = time.Minute
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Add implements [cache.ReflectorStore].
func (f *feed[T]) Add(obj any) error { return f.Update(obj) }

// Update implements [cache.ReflectorStore].
func (f *feed[T]) Update(obj any) error {
	if o, ok := obj.(T); ok {
		f.tell(o)
	}
	return nil
}

func (f *feed[T]) tell(o T) {
	name, version := nameOf(o), o.GetResourceVersion()
	if last, known := f.known[name]; known && last == version && version != "" {
		return // a list after an interruption repeats most objects
	}
	f.known[name] = version
	f.set(o)
}

// Delete implements [cache.ReflectorStore].
func (f *feed[T]) Delete(obj any) error {
	if o, ok := obj.(T); ok {
		delete(f.known, nameOf(o))
		f.gone(nameOf(o))
	}
	return nil
}

// Replace implements [cache.ReflectorStore]: what is not in the list is gone.
func (f *feed[T]) Replace(list []any, _ string) error {
	there := make(map[proxier.Name]struct{}, len(list))
	for _, obj := range list {
		if o, ok := obj.(T); ok {
			there[nameOf(o)] = struct{}{}
			f.tell(o)
		}
	}
	for name := range f.known {
		if _, ok := there[name]; !ok {
			delete(f.known, name)
			f.gone(name)
		}
	}
	f.once.Do(func() { close(f.synced) })
	return nil
}

// Resync implements [cache.ReflectorStore].
func (f *feed[T]) Resync() error { return nil }

// Transformer implements [cache.TransformingStore]: a first list is kept
// whole until it is complete, so it drops what is most of an object and never
// read.
func (f *feed[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if m, err := meta.Accessor(obj); err == nil {
			m.SetManagedFields(nil)
		}
		return obj, nil
	}
}

func nameOf(o metav1.Object) proxier.Name {
	return proxier.Name{Namespace: o.GetNamespace(), Name: o.GetName()}
}
