// SPDX-License-Identifier: Apache-2.0

// Package nearest finds what a mistyped name was most likely meant to be.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// longest is the length in bytes above which a word is nobody's slip of the
// fingers; it keeps the work small on a file that is something else.
const longest = 64

// One gives the known word that a mistyped one was most likely meant to be, or
// "" when none is near: at most two edits, and fewer than half its letters. Of
// words that are equally near the first is given.
func One(word string, known []string) string {
	best, found := 3, ""
	if len(word) > longest {
		return ""
	}
	for _, k := range known {
		if d := edits(word, k); d < best && 2*d < len(k) {
			best, found = d, k
		}
	}
	return found
}

// Three gives the (at most three) names most like name, best first, however
// far they are; equally near ones stay in their order. A name that is part of
// the other counts as one edit: "shim" means "containerd-shim-runc-v2".
func Three(name string, names []string) []string {
	near := slices.Clone(names)
	slices.SortStableFunc(near, func(x, y string) int {
		return cmp.Compare(distance(name, x), distance(name, y))
	})
	return near[:min(3, len(near))]
}

func distance(x, y string) int {
	if x != "" && strings.Contains(y, x) || y != "" && strings.Contains(x, y) {
		return 1
	}
	return edits(x, y)
}

// edits is the Levenshtein distance in bytes.
func edits(x, y string) int {
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
