// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// userHZ is the unit of times in /proc/PID/stat, on every architecture that Go
// runs on.
const userHZ = 100

// machineCPU is what this computer has spent on a lab machine so far: its
// kernel is a process, and the programs in it are that one's children.
func machineCPU(kernel int) (time.Duration, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return 0, err
	}
	var ticks int64
	found := false
	for _, p := range all {
		s, err := p.Stat()
		if err != nil || (s.PID != kernel && s.PPID != kernel) {
			continue // one that has ended is in its parent's time by now
		}
		found = found || s.PID == kernel
		// procfs has the children's as signed numbers, its own as unsigned.
		ticks += int64(s.UTime) + int64(s.STime) + int64(s.CUTime) + int64(s.CSTime)
	}
	if !found {
		return 0, fmt.Errorf("the machine's process %d is gone", kernel)
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}
