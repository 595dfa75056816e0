// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// results are all runs of both sides, in the order they were made.
type results struct {
	muster []musterRun
	peer   []peerRun
}

// cost is what one command took.
type cost struct {
	wall time.Duration
	// cpu is what this computer spent on the machine. It includes the machine's
	// kernel and hardly depends on what else runs on this computer.
	cpu time.Duration
}

// musterRun is one install, then one join, from bare machines.
type musterRun struct {
	init, join             cost
	initReport, joinReport runReport
}

// peerRun is the same by kubeadm.
type peerRun struct {
	prepared   preparation // of the control-plane machine, before kubeadm's clock
	init, join cost
}

type preparation struct{ copyPrograms, copyImages, importImages time.Duration }

func (p preparation) all() time.Duration { return p.copyPrograms + p.copyImages + p.importImages }

// runReport is what `muster init -o json` prints, as far as it is used here.
type runReport struct {
	Schema    string  `json:"schema"`
	Seconds   float64 `json:"seconds"`
	Changed   int     `json:"changed"`
	BytesSent int64   `json:"bytesSent"`
	Phases    []span  `json:"phases"`
	Tasks     []span  `json:"tasks"`
}

// span is when a phase or a task worked, in seconds since the run's start.
type span struct {
	Phase string  `json:"phase"`
	Task  string  `json:"task"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
}

const runSchema = "muster/run/v1"

func parseReport(data []byte) (runReport, error) {
	var r runReport
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read muster's report: %w in %.200q", err, data)
	}
	if r.Schema != runSchema {
		return r, fmt.Errorf("read muster's report: its schema is %q, this program knows %s", r.Schema, runSchema)
	}
	return r, nil
}

// median is the middle value; of an even number, the lower one of the middle
// two, so that it is always a run that was made.
func median[T any](runs []T, of func(T) time.Duration) time.Duration {
	return of(medianRun(runs, of))
}

// medianRun is the run with the median value; there is at least one run.
func medianRun[T any](runs []T, of func(T) time.Duration) T {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b T) int { return int(of(a) - of(b)) })
	return sorted[(len(sorted)-1)/2]
}
