// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/e2e/program"
)

// area is what all specs of interest begin with.
const area = "[sig-network] "

// measures is in the names of specs that measure times, and hurry: 200 Services.
const measures = "Service endpoints latency"

// spec is one test. Its name is unique: what Ginkgo calls the texts of its
// containers and its own, joined by blanks.
type spec struct {
	name   string
	group  string // the outermost container's text, without the area
	serial bool   // disturbs others, or is disturbed by them
	source string // file and line, so that they sort as in upstream's source
}

// conformance says whether every conformant cluster must pass the spec.
func (s spec) conformance() bool { return strings.Contains(s.name, "[Conformance]") }

// ginkgoReport is Ginkgo's JSON report, as far as it is used here.
type ginkgoReport struct {
	SpecReports []ginkgoSpec
}

type ginkgoSpec struct {
	ContainerHierarchyTexts  []string
	ContainerHierarchyLabels [][]string
	LeafNodeType             string
	LeafNodeText             string
	LeafNodeLabels           []string
	LeafNodeLocation         location
	State                    string
	RunTime                  time.Duration
	Failure                  struct {
		Message  string
		Location location
	}
}

type location struct {
	FileName   string
	LineNumber int
}

func (s ginkgoSpec) name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
}

func (s ginkgoSpec) labelled(label string) bool {
	return slices.Contains(slices.Concat(append(s.ContainerHierarchyLabels, s.LeafNodeLabels)...), label)
}

// readReport gives the specs of a report: not the set-up of the suite.
func readReport(raw []byte) ([]ginkgoSpec, error) {
	var reports []ginkgoReport
	if err := json.Unmarshal(raw, &reports); err != nil {
		return nil, fmt.Errorf("read Ginkgo's report: %w", err)
	}
	if len(reports) != 1 {
		return nil, fmt.Errorf("read Ginkgo's report: it is about %d suites, not one", len(reports))
	}
	return slices.DeleteFunc(reports[0].SpecReports, func(s ginkgoSpec) bool {
		return s.LeafNodeType != "It" && s.State != "failed"
	}), nil
}

// specs lists the area's specs in the order of upstream's source.
func (s suite) specs(ctx context.Context) ([]spec, error) {
	dir, err := os.MkdirTemp("", "muster-specs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "report.json")
	cmd := exec.CommandContext(ctx, s.program(), "--ginkgo.dry-run", "--ginkgo.succinct", "--ginkgo.no-color",
		"--ginkgo.focus="+regexp.QuoteMeta(area), "--ginkgo.json-report="+file)
	cmd.Env = []string{"HOME=" + dir}
	if _, err := program.Output(cmd); err != nil {
		return nil, fmt.Errorf("list the specs: %w", err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("list the specs: %w", err)
	}
	return parseSpecs(raw)
}

func parseSpecs(raw []byte) ([]spec, error) {
	all, err := readReport(raw)
	if err != nil {
		return nil, err
	}
	var specs []spec
	for _, s := range all {
		if !strings.HasPrefix(s.name(), area) || len(s.ContainerHierarchyTexts) == 0 {
			continue
		}
		specs = append(specs, spec{
			name: s.name(), group: strings.TrimPrefix(s.ContainerHierarchyTexts[0], area),
			serial: s.labelled("Serial") || s.labelled("Disruptive") || strings.Contains(s.name(), measures),
			source: fmt.Sprintf("%s:%06d", s.LeafNodeLocation.FileName, s.LeafNodeLocation.LineNumber),
		})
	}
	// The tests come in a random order. Several may be of one line.
	slices.SortFunc(specs, func(a, b spec) int { return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.name, b.name)) })
	if len(specs) == 0 {
		return nil, errors.New("list the specs: the tests have none of " + strings.TrimSpace(area))
	}
	return specs, nil
}

// focus is the regular expression that matches these specs alone.
func focus(batch []spec) string {
	var names []string
	for _, s := range batch {
		names = append(names, regexp.QuoteMeta(s.name))
	}
	return "(" + strings.Join(names, "|") + ")$"
}

// outcomes finds what became of specs in the report of their process. One that
// the process did not come to has no result. The suite's own set-up may have
// failed before all of them.
func outcomes(raw []byte, batch []spec) ([]result, error) {
	all, err := readReport(raw)
	if err != nil {
		return nil, err
	}
	byName := map[string]ginkgoSpec{}
	for _, one := range all {
		if one.LeafNodeType != "It" {
			return failAll(batch, one.LeafNodeType+": "+firstLine(one.Failure.Message)), nil
		}
		byName[one.name()] = one
	}
	var results []result
	for _, s := range batch {
		one, ok := byName[s.name]
		if !ok {
			return nil, fmt.Errorf("read Ginkgo's report: it does not say what became of %q", s.name)
		}
		if one.State == "skipped" && one.Failure.Message == "" {
			continue
		}
		results = append(results, one.result())
	}
	return results, nil
}

func failAll(batch []spec, reason string) []result {
	var results []result
	for _, s := range batch {
		results = append(results, result{Spec: s.name, State: failed, Reason: reason})
	}
	return results
}

func (s ginkgoSpec) result() result {
	r := result{Spec: s.name(), State: failed, Seconds: s.RunTime.Seconds()}
	switch s.State {
	case "passed":
		r.State = passed
		return r
	case "skipped", "pending":
		r.State = skipped
	}
	r.Reason = firstLine(s.Failure.Message)
	switch s.State {
	case "timedout":
		r.Reason = "it was cut by this run's own -limit: " + r.Reason
	case "interrupted", "aborted", "panicked":
		r.Reason = s.State + ": " + r.Reason
	}
	if at := s.Failure.Location; at.FileName != "" {
		r.At = fmt.Sprintf("%s:%d", filepath.Base(at.FileName), at.LineNumber)
	}
	return r
}

// firstLine is a message's first line that says something.
func firstLine(message string) string {
	for line := range bytes.Lines([]byte(message)) {
		if text := strings.TrimSpace(string(line)); text != "" {
			return text
		}
	}
	return ""
}
