// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"
)

func TestSaveMemory(t *testing.T) {
	before := debug.SetGCPercent(77)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for _, c := range []struct {
		set  string
		want int
	}{{"200", 77}, {"off", 77}, {"", gcPercent}} {
		t.Setenv("GOGC", c.set)
		saveMemory()
		now := debug.SetGCPercent(77)
		if now != c.want {
			t.Errorf("with GOGC=%q the collector runs at %d, want %d", c.set, now, c.want)
		}
	}
}
