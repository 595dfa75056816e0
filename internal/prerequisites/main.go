// SPDX-License-Identifier: Apache-2.0

// Command prerequisites prints the Debian packages that building the bundle,
// the lab and its tests needs, one a line. The Makefile installs those that
// are missing.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/muster-project/muster/bundle/build"
	"github.com/muster-project/muster/e2e/lab"
)

func main() {
	all := slices.Concat(lab.Packages(), lab.EmulatorPackages(), build.Packages())
	slices.Sort(all)
	if _, err := fmt.Fprintln(os.Stdout, strings.Join(slices.Compact(all), "\n")); err != nil {
		os.Exit(1)
	}
}
