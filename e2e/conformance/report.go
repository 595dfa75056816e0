// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/template"
	"time"
)

// place is what was tested, and where.
type place struct {
	Commit     string
	Kubernetes string
	Bundle     string
	Workers    int
	MemoryMiB  int
	DualStack  bool
}

// describe asks git which source this is, and whether it was changed since.
func (w *work) describe(ctx context.Context) (place, error) {
	p := place{Kubernetes: kubernetes, Bundle: w.bundle, Workers: len(zones()), MemoryMiB: memoryMiB, DualStack: w.dual}
	head, err := output(exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD"))
	if err != nil {
		return p, err
	}
	changed, err := output(exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no"))
	if err != nil {
		return p, err
	}
	p.Commit = strings.TrimSpace(string(head))
	if len(changed) > 0 {
		p.Commit += " with changes"
	}
	return p, nil
}

// The states of lines that have no result.
const (
	excluded state = "left out"
	notRun   state = "not run"
)

// line is what the section says of one spec.
type line struct {
	Name, Group, Reason string
	State               state
	Seconds             float64
	Conformance         bool // every conformant cluster must pass it
}

// section is what files/section.md.tmpl is rendered from.
type section struct {
	place
	Date   string
	Totals []total // the last one is the sum
	Lines  []line  // ordered by group, then as upstream's source has them
}

// Of gives the lines of one state.
func (s section) Of(want state) []line {
	return slices.DeleteFunc(slices.Clone(s.Lines), func(l line) bool { return l.State != want })
}

// total counts one group.
type total struct {
	Group                                     string
	Passed, Failed, Skipped, NotRun, Excluded int
}

func (t *total) add(s state) {
	switch s {
	case passed:
		t.Passed++
	case failed:
		t.Failed++
	case skipped:
		t.Skipped++
	case excluded:
		t.Excluded++
	default:
		t.NotRun++
	}
}

//go:embed files/section.md.tmpl
var sectionTemplate string

func render(where place, specs []spec, results map[string]result) ([]byte, error) {
	funcs := template.FuncMap{"cell": cell, "list": func(states ...state) []state { return states }}
	t, err := template.New("section").Funcs(funcs).Parse(sectionTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, summary(where, specs, results))
	return out.Bytes(), err
}

func summary(where place, specs []spec, results map[string]result) section {
	s := section{place: where}
	var last time.Time
	totals := map[string]*total{}
	sum := total{Group: "all"}
	for _, one := range specs {
		l := lineOf(one, where.DualStack, results)
		s.Lines = append(s.Lines, l)
		if totals[l.Group] == nil {
			totals[l.Group] = &total{Group: l.Group}
		}
		totals[l.Group].add(l.State)
		sum.add(l.State)
		if ended := results[one.name].Ended; ended.After(last) {
			last = ended
		}
	}
	slices.SortStableFunc(s.Lines, func(a, b line) int { return byGroup(a.Group, b.Group) })
	for _, group := range slices.SortedFunc(maps.Keys(totals), byGroup) {
		s.Totals = append(s.Totals, *totals[group])
	}
	s.Totals = append(s.Totals, sum)
	s.Date = last.UTC().Format(time.DateOnly)
	return s
}

// byGroup orders groups as they run; those that do not come last.
func byGroup(a, b string) int {
	place := func(g string) int {
		if i := slices.Index(groups(), g); i >= 0 {
			return i
		}
		return len(groups())
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
}

func lineOf(one spec, dualStack bool, results map[string]result) line {
	l := line{
		Name:        strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(one.name, area), one.group)),
		Group:       one.group,
		Conformance: one.conformance(),
	}
	if l.Reason = leftOut(one, dualStack); l.Reason != "" {
		l.State = excluded
		return l
	}
	r, ok := results[one.name]
	if !ok {
		l.State, l.Reason = notRun, "the run ended before it"
		return l
	}
	l.State, l.Reason, l.Seconds = r.State, r.Reason, r.Seconds
	if r.State == failed {
		l.Reason = strings.TrimSpace(r.Reason + " (" + r.At + ")")
		if found := findingOf(one); found != "" {
			l.Reason += ". " + found
		}
	}
	return l
}

// cell makes a text one cell of a Markdown table.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const longest = 400
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "..."
	}
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "`", "'").Replace(text)
}

// Marks of the section in the file; what is around them stays.
const (
	sectionBegin = "<!-- conformance: written by e2e/conformance -->\n"
	sectionEnd   = "<!-- conformance: end -->\n"
)

// replaceSection puts the section into a file, in place of an earlier one or at
// its end.
func replaceSection(path string, section []byte) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# Conformance\n"), nil
	}
	if err != nil {
		return err
	}
	replaced, err := withSection(string(old), string(section))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644)
}

func withSection(old, section string) (string, error) {
	whole := sectionBegin + section + sectionEnd
	before, rest, has := strings.Cut(old, sectionBegin)
	if !has {
		return strings.TrimRight(old, "\n") + "\n\n" + whole, nil
	}
	_, after, ends := strings.Cut(rest, sectionEnd)
	if !ends {
		return "", fmt.Errorf("%q is not followed by %q: put it back, or remove both", strings.TrimSpace(sectionBegin), strings.TrimSpace(sectionEnd))
	}
	return before + whole + after, nil
}
