// SPDX-License-Identifier: Apache-2.0

package inventory

// nearest gives the known word that a mistyped one was most likely meant to
// be, or "" when none is near: at most two edits, and fewer than half its letters.
func nearest(word string, known []string) string {
	best, found := 3, ""
	if len(word) > 64 { // nobody mistypes this; keeps the work small
		return ""
	}
	for _, k := range known {
		if d := edits(word, k); d < best && 2*d < len(k) {
			best, found = d, k
		}
	}
	return found
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
