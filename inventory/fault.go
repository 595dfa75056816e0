// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the file.
type Fault struct {
	Path    string `json:"path"`           // as hosts[2].address; empty for the whole file
	Line    int    `json:"line"`           // 1-based; 0 when the file as a whole is at fault
	Problem string `json:"problem"`        // what is wrong, with the value
	Hint    string `json:"hint,omitempty"` // what to write instead, where that is known
}

// String is one line: where, what, and what to do.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Faults are all faults of one file, sorted by line, then path.
type Faults []Fault

// Error lists every fault on a line of its own.
func (fs Faults) Error() string {
	lines := make([]string, 0, len(fs)+1)
	noun := "faults"
	if len(fs) == 1 {
		noun = "fault"
	}
	lines = append(lines, fmt.Sprintf("inventory: %d %s", len(fs), noun))
	for _, f := range fs {
		lines = append(lines, "  "+f.String())
	}
	return strings.Join(lines, "\n")
}

// ExitCode is the exit code of a command that stops on a file that is not valid.
func (fs Faults) ExitCode() int { return 3 }

func (fs Faults) sort() {
	slices.SortFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
}
