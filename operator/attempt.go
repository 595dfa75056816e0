// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"sync"
)

// attempt is something made once, by whoever needs it first; the others wait
// for it and get the same, or the same error.
type attempt[T any] struct {
	mu    sync.Mutex
	ready chan struct{} // closed when the next two are set; nil before anybody began
	value T
	err   error
}

func (a *attempt[T]) get(ctx context.Context, produce func() (T, error)) (T, error) {
	ready, first := a.begin()
	if first {
		a.value, a.err = produce()
		close(ready)
	}
	select {
	case <-ready:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// begin reports whether the caller is the first.
func (a *attempt[T]) begin() (ready chan struct{}, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready == nil {
		a.ready, first = make(chan struct{}), true
	}
	return a.ready, first
}

// made returns what was made, if it was and nothing went wrong.
func (a *attempt[T]) made() (value T, ok bool) {
	a.mu.Lock()
	ready := a.ready
	a.mu.Unlock()
	select {
	case <-ready: // never, when it is nil
		return a.value, a.err == nil
	default:
		return value, false
	}
}
