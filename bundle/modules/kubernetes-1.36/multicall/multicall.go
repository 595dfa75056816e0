// SPDX-License-Identifier: Apache-2.0

// Package multicall picks one of several programs that share a file.
package multicall

import (
	"path/filepath"
	"slices"
)

// Pick finds the program that args ask for, where args[0] is the name the
// process was started under: that name picks, as busybox does it, and under any
// other name the first argument picks. It returns the arguments as that program
// expects them, its own name first, and nil if args name none of programs.
func Pick(args, programs []string) []string {
	for n := range min(2, len(args)) {
		if name := filepath.Base(args[n]); slices.Contains(programs, name) {
			return append([]string{name}, args[n+1:]...)
		}
	}
	return nil
}
