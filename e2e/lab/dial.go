// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// dialWithin bounds the wait for machines that do not answer. One that
	// drops packets has three tries of TCP in it.
	dialWithin = 4 * time.Second
	// dialNext is when the next target gets its chance beside the one before:
	// on one bridge an answer takes less than a millisecond, unless the machine
	// is down or its only core is busy.
	dialNext = 250 * time.Millisecond
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

type dialed struct {
	conn net.Conn
	err  error
}

// dialFirst connects to the first target that accepts; a target that says no
// costs nothing, and one that says nothing costs dialNext.
func dialFirst(ctx context.Context, dial dialFunc, targets []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	results := make(chan dialed, len(targets))
	open := 0
	defer func() {
		cancel()
		go closeLate(results, open)
	}()
	errs := []error{errors.New("no target accepts")}
	for len(targets) > 0 || open > 0 {
		var next <-chan time.Time
		if len(targets) > 0 {
			target := targets[0]
			targets = targets[1:]
			open++
			go func() {
				conn, err := dial(ctx, "tcp", target)
				results <- dialed{conn, err}
			}()
			next = time.After(dialNext)
		}
		if len(targets) == 0 {
			next = nil // nobody is left to give a chance to
		}
		select {
		case <-next:
		case r := <-results:
			open--
			if r.err == nil {
				return r.conn, nil
			}
			errs = append(errs, r.err)
		}
	}
	return nil, errors.Join(errs...)
}

// closeLate closes the connections that came too late.
func closeLate(results <-chan dialed, open int) {
	for range open {
		if r := <-results; r.err == nil {
			r.conn.Close() //nolint:errcheck // never used
		}
	}
}
