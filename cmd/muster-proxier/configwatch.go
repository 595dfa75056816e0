// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// configTick is how often the file is looked at. A mounted ConfigMap changes
// by a symbolic link two directories up, which no watch of the file notices.
const configTick = 5 * time.Second

// errConfigChanged ends the program, as kube-proxy's changes end it: whoever
// started it starts it again, and nothing in the kernel changes meanwhile.
var errConfigChanged = errors.New("the configuration file changed: ending, to be started with the new one")

// configWatch waits for another content of the configuration file.
type configWatch struct {
	path  string
	now   []byte // what is in force
	check func([]byte) error
	log   *slog.Logger
	ticks <-chan time.Time
}

// run returns errConfigChanged once there is a new content without faults. A
// faulty one would end in a program that does not start; the old one stays
// in force.
func (w configWatch) run(ctx context.Context) error {
	seen := w.now
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.ticks:
		}
		data, err := os.ReadFile(w.path)
		if err != nil || bytes.Equal(data, seen) {
			continue // a file that is being replaced comes back
		}
		seen = data
		if bytes.Equal(data, w.now) {
			continue
		}
		if err := w.check(data); err != nil {
			w.log.Error("the configuration file changed and has faults; the old one stays in force", "file", w.path, "faults", err)
			continue
		}
		return fmt.Errorf("%s: %w", w.path, errConfigChanged)
	}
}
