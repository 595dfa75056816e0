// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
	"slices"
	"strings"
)

// nearest returns the (at most three) names most like name, best first.
func nearest(name string, names []string) []string {
	near := slices.Clone(names)
	slices.SortStableFunc(near, func(x, y string) int {
		return cmp.Compare(distance(name, x), distance(name, y))
	})
	return near[:min(3, len(near))]
}

// distance is the number of one-letter changes between two names. A name that
// is part of the other counts as one change: "shim" means
// "containerd-shim-runc-v2".
func distance(x, y string) int {
	if x != "" && strings.Contains(y, x) || y != "" && strings.Contains(x, y) {
		return 1
	}
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(x) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(y) {
			change := diagonal
			if x[i] != y[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(y)]
}
