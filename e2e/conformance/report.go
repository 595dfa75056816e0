// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
)

// place is what was tested, and where.
type place struct {
	document.Place
	Kubernetes string
	Bundle     string
	Workers    int
	MemoryMiB  int
	DualStack  bool
}

func (w *work) describe(here document.Place) place {
	return place{Place: here, Kubernetes: kubernetes, Bundle: w.bundle, Workers: len(zones()), MemoryMiB: memoryMiB, DualStack: w.dual}
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
