// SPDX-License-Identifier: Apache-2.0

// Command prerequisites prints the Debian packages that building the bundle,
// the lab and its tests needs, one a line, and those of the groups that its
// arguments name. The Makefile installs those that are missing.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/muster-project/muster/bundle/build"
	"github.com/muster-project/muster/e2e/lab"
)

// group lists packages that only some targets of the Makefile need.
func group(name string) ([]string, bool) {
	switch name {
	case "emulator": // make kernels
		return lab.EmulatorPackages(), true
	case "trace": // make bench, which counts system calls
		return []string{"strace"}, true
	}
	return nil, false
}

func main() {
	all := slices.Concat(lab.Packages(), build.Packages())
	for _, name := range os.Args[1:] {
		more, ok := group(name)
		if !ok {
			fmt.Fprintf(os.Stderr, "prerequisites: no group %q: want emulator or trace\n", name)
			os.Exit(1)
		}
		all = append(all, more...)
	}
	slices.Sort(all)
	if _, err := fmt.Fprintln(os.Stdout, strings.Join(slices.Compact(all), "\n")); err != nil {
		os.Exit(1)
	}
}
