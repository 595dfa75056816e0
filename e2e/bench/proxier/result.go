// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"
)

// result is all that was measured of one contender at one size. It travels as
// JSON from the machine to the report.
type result struct {
	Contender contender
	Services  int
	Skipped   string // why nothing was measured

	Cold      bounded       // from the start of the process until the kernel was complete
	ColdCPU   time.Duration // used until then
	ColdForks int

	Changes []time.Duration // from one event to the kernel, in the order they were made
	Late    bool            // the last of Changes is the bound: it was not seen

	Rolling    bounded // from the last event of a rolling update until the kernel had all
	RollingCPU time.Duration

	Rest       time.Duration // how long nothing happened
	RestCPU    time.Duration // used meanwhile
	Resync     syncs         // passes over the kernel that found nothing to do
	ResyncCPU  time.Duration // used while they were made
	RestForks  int
	Forks      int // from the end of the cold start to the end of the rest
	PeakRSS    uint64
	RestRSS    uint64
	PeakMemory uint64 // of the contender and what it started, page cache included

	Data map[string]loadResult // by path and kind

	Syscalls float64 // of one change, all processes; 0 is not measured
}

// bounded is a time, or the bound that it did not keep.
type bounded struct {
	Took time.Duration
	Over bool
}

// change is a quantile of the single changes.
func (r result) change(q float64) bounded {
	if len(r.Changes) == 0 {
		return bounded{}
	}
	b := bounded{Took: quantile(slices.Sorted(slices.Values(r.Changes)), q)}
	b.Over = r.Late && b.Took == slices.Max(r.Changes)
	return b
}
