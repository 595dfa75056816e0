// SPDX-License-Identifier: Apache-2.0

// Package step holds the closed set of changes that muster makes on a host.
//
// A step is plain data: it compares with reflect.DeepEqual, prints as one line
// and travels as JSON. Done says whether the host is already right (right, not
// just present); Do makes it so, and doing it twice is doing it once. What a
// step is about to overwrite it names in Touches, and the agent journals that
// before Do runs, so that a reset can put it back.
//
// A step may also be a Condition (something to wait for) or an Explainer.
package step

import (
	"context"
	"fmt"
	"time"
)

// Step is one idempotent change on one host.
type Step interface {
	fmt.Stringer
	// Done reports whether the host is already as wanted. It changes nothing.
	// An error means "could not ask", never "no".
	Done(ctx context.Context, h *Host) (bool, error)
	// Do makes the host as wanted. It may be cut anywhere and run again.
	Do(ctx context.Context, h *Host) error
	// Touches lists what Do may overwrite, for the journal; nil if nothing
	// that outlives the cluster.
	Touches() []Touch
}

// Condition is a step that waits: the agent asks Done until it holds or until
// Within has passed. Its Do is never called.
type Condition interface {
	Step
	Within() time.Duration
}

// Explainer gives the evidence for a step that failed: unit state, last log
// lines, whatever a person would look at first. One fact a line.
type Explainer interface {
	Explain(ctx context.Context, h *Host) []string
}

// TouchKind says what sort of thing a step overwrites.
type TouchKind string

// The kinds of things whose former state the journal keeps.
const (
	TouchPath   TouchKind = "path"   // a file, link or directory
	TouchSysctl TouchKind = "sysctl" // a key below /proc/sys, dotted
	TouchUnit   TouchKind = "unit"   // a systemd unit: enabled, active
	TouchUser   TouchKind = "user"   // a system user
)

// Touch names one thing a step may overwrite.
type Touch struct {
	Kind TouchKind
	Name string
	// Whole marks a directory whose contents belong to the cluster: a reset
	// removes it with everything in it if it was not there before.
	Whole bool `json:",omitempty"`
}

func paths(names ...string) []Touch {
	touches := make([]Touch, len(names))
	for i, n := range names {
		touches[i] = Touch{Kind: TouchPath, Name: n}
	}
	return touches
}

// never is the Do of conditions, which the agent never calls.
func never(s Step) error { return fmt.Errorf("%s is a condition and cannot be done", s) }
