// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"time"
)

// Acquire takes the lock file once, without patience.
func Acquire(path, operator string, now time.Time) (*Lock, error) {
	return acquire(path, operator, now)
}

// ReplayFrom undoes the journal down to an entry, as a reset that is cut there.
func (a *Agent) ReplayFrom(ctx context.Context, first int) error {
	entries, err := ReadJournal(a.Host)
	if err != nil {
		return err
	}
	return a.replay(ctx, entries[first:])
}

// Tail is a writer that keeps the end of what it is given.
func Tail(limit int) (io.Writer, func() string) {
	t := &tail{limit: limit}
	return t, func() string { return string(t.data) }
}

// PodNetworks reads flannel's subnet file.
var PodNetworks = podNetworks
