// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"slices"
	"strings"
)

// Cmd is a command to run, as a value that can be compared and printed.
type Cmd struct {
	Argv    []string // the program and its arguments, unquoted
	Stdin   []byte   // what the command reads
	Secrets []string // texts in Argv, Stdin or the output that must not be printed
}

// String is the command line with its secrets masked.
func (c Cmd) String() string {
	argv := make([]string, len(c.Argv))
	for i, arg := range c.Argv {
		argv[i] = quote(c.Mask(arg))
	}
	return strings.Join(argv, " ")
}

// mask stands where a secret was.
const mask = "***"

// Mask replaces the command's secrets in a text that a person will read. What
// goes over the wire is never masked.
func (c Cmd) Mask(text string) string {
	secrets := slices.Clone(c.Secrets)
	// The longest first: a secret that holds another one must go whole.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		if s == "" {
			continue
		}
		text = strings.ReplaceAll(text, s, mask)
		if q := quote(s); q != s { // as a shell's own messages show it
			text = strings.ReplaceAll(text, q, mask)
		}
	}
	return text
}

// Result is what a command wrote.
type Result struct {
	Stdout []byte
	Stderr []byte // only its end, when there was much
}

// ExitError is a command that ran and said no. That it could not be run at all
// is another error.
type ExitError struct {
	Cmd    string // masked command line
	Code   int    // exit code; -1 when a signal ended it
	Signal string // name of that signal without SIG
	Stderr string // masked end of what it wrote there
}

func (e *ExitError) Error() string {
	end := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		end = "signal " + e.Signal
	}
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %s", e.Cmd, end)
	}
	return fmt.Sprintf("%s: %s: %s", e.Cmd, end, strings.TrimSpace(e.Stderr))
}
