// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	kubernetes "github.com/muster-project/muster/bundle/build"
	"github.com/muster-project/muster/e2e/bench/document"
)

//go:embed files
var files embed.FS

// section is what files/section.md.tmpl is rendered from.
type section struct {
	document.Place
	Kubernetes string
	Sizes      string
	Bound      string
	Took       string
	MemoryMiB  int
	Endpoints  int // of each Service
	Tables     []table
}

// table is one measurement of everybody.
type table struct {
	Title, Note string
	Head        []string
	Rows        [][]string
}

// measurement is one thing that was measured.
type measurement struct {
	title, note string
	cell        func(result) string
	value       func(result) float64 // for the ratios; 0 is none
}

func render(where document.Place, o options, took time.Duration, idle, full []result) ([]byte, error) {
	text, err := files.ReadFile("files/section.md.tmpl")
	if err != nil {
		return nil, err
	}
	t, err := template.New("section").Funcs(template.FuncMap{"row": func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }}).
		Parse(string(text))
	if err != nil {
		return nil, err
	}
	s := section{
		Place: where, Kubernetes: kubernetes.Kubernetes, Sizes: strings.Trim(fmt.Sprint(o.sizes), "[]"), Bound: o.bound.String(),
		Took: took.Round(time.Minute).String(), MemoryMiB: memoryMiB, Endpoints: perService,
	}
	for _, m := range measurements() {
		sizes := o.sizes
		all := full
		if m.title == memoryTitle {
			sizes, all = append([]int{idleServices}, sizes...), append(slices.Clone(idle), full...)
		}
		s.Tables = append(s.Tables, m.table(sizes, all))
	}
	for _, size := range o.sizes {
		s.Tables = append(s.Tables, dataTable(size, full))
	}
	var out bytes.Buffer
	err = t.Execute(&out, s)
	return out.Bytes(), err
}

const memoryTitle = "Memory: peak RSS (and at rest), MB"

func measurements() []measurement {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) }
	return []measurement{
		{"Cold start, s (CPU time)", "From the start of the process until the kernel has everything.",
			func(r result) string { return limit(r.Cold, seconds) + " (" + seconds(r.ColdCPU) + ")" },
			func(r result) float64 { return r.Cold.Took.Seconds() }},
		{"One endpoint replaced: median, p99; ms",
			fmt.Sprintf("From writing the event into the watch until the kernel uses the new endpoint; %d changes, %s apart, or as many as fit into %s, but at least %d.",
				singleChanges, changePause, changesTime, fewestChanges),
			func(r result) string { return limit(r.change(0.5), ms) + ", " + limit(r.change(0.99), ms) },
			func(r result) float64 { return r.change(0.5).Took.Seconds() }},
		{fmt.Sprintf("Rolling update of %d endpoints: kernel behind the last event, ms (CPU time, s)", rollingEndpoints),
			fmt.Sprintf("One event per endpoint, %s apart. The ratios are of CPU time.", rollingPause),
			func(r result) string { return limit(r.Rolling, ms) + " (" + seconds(r.RollingCPU) + ")" },
			func(r result) float64 { return r.RollingCPU.Seconds() }},
		{"Resync that finds nothing to do, ms (CPU time, ms)",
			"By its own count of its time; all address families. kube-proxy's ipvs mode does it every 30 s; its nftables mode once an hour, which is not waited for. " +
				"muster does it every 15 minutes and when somebody deletes something of its own, as was done here.",
			func(r result) string { return resync(r, ms) }, func(r result) float64 { return r.Resync.Took.Seconds() }},
		{"CPU time at rest, ms per s", "Nothing changes; kube-proxy's ipvs mode has one periodic resync in it.",
			func(r result) string { return fmt.Sprintf("%.1f", restCPU(r)) }, restCPU},
		{memoryTitle, "Of its own process (VmHWM, VmRSS).",
			func(r result) string { return megabytes(r.PeakRSS) + " (" + megabytes(r.RestRSS) + ")" }, func(r result) float64 { return float64(r.PeakRSS) }},
		{"Memory with what it started, at most, MB", "Charged to its cgroup (memory.peak): anonymous memory and the kernel's, but not the text of programs.",
			func(r result) string { return megabytes(r.PeakMemory) }, func(r result) float64 { return float64(r.PeakMemory) }},
		{"Processes started: until the cold start was over, after it, of these at rest", "PROC_EVENT_FORK of the kernel's process connector, threads left out.",
			func(r result) string { return fmt.Sprintf("%d, %d, %d", r.ColdForks, r.Forks, r.RestForks) }, func(result) float64 { return 0 }},
		{"System calls per change", fmt.Sprintf("strace -c -f over up to %d changes with their pauses: timers and pollers included, and what is started.", tracedChanges),
			func(r result) string { return count(r.Syscalls) }, func(r result) float64 { return r.Syscalls }},
	}
}

func resync(r result, ms func(time.Duration) string) string {
	if r.Resync.Count == 0 {
		return "none"
	}
	return ms(r.Resync.Took) + " (" + ms(r.ResyncCPU) + ")"
}

// limit writes a time, or that it was over its bound.
func limit(b bounded, text func(time.Duration) string) string {
	if b.Over {
		return "> " + text(b.Took)
	}
	return text(b.Took)
}

func restCPU(r result) float64 {
	if r.Rest == 0 {
		return 0
	}
	return float64(r.RestCPU.Milliseconds()) / r.Rest.Seconds()
}

func megabytes(n uint64) string { return fmt.Sprintf("%.0f", float64(n)/1e6) }

func count(n float64) string {
	if n == 0 {
		return "not counted"
	}
	return fmt.Sprintf("%.0f", n)
}

// of is a measurement of one contender, or why there is none.
func (m measurement) of(r result, there bool) string {
	switch {
	case !there:
		return ""
	case r.Skipped != "":
		return r.Skipped
	case r.Cold.Over && !strings.HasPrefix(m.title, "Cold start"):
		return "never complete"
	}
	return m.cell(r)
}

func (m measurement) table(sizes []int, all []result) table {
	t := table{Title: m.title, Note: m.note, Head: []string{"Services", "muster", "kube-proxy ipvs", "kube-proxy nftables", "ipvs / muster", "nftables / muster"}}
	for _, size := range sizes {
		row := []string{fmt.Sprint(size)}
		own, _ := find(all, muster, size)
		var ratios []string
		for _, who := range contenders() {
			r, there := find(all, who, size)
			row = append(row, m.of(r, there))
			if who != muster {
				ratios = append(ratios, ratio(m.value(r), m.value(own), r.Cold.Over))
			}
		}
		t.Rows = append(t.Rows, append(row, ratios...))
	}
	return t
}

// ratio compares two values; more says that the peer's is at least that.
func ratio(peer, own float64, more bool) string {
	if peer == 0 || own == 0 {
		return ""
	}
	text := fmt.Sprintf("%.1f", peer/own)
	if peer/own >= 10 {
		text = fmt.Sprintf("%.0f", peer/own)
	}
	if more {
		text = "> " + text
	}
	return text
}

// dataTable is what the client found at one size.
func dataTable(size int, all []result) table {
	t := table{
		Title: fmt.Sprintf("Requests through %d Services: per second; p50, p99 in ms", size),
		Note:  fmt.Sprintf("%d clients for %s each, from a pod to pods on the same node.", loadClients, loadTime),
		Head:  []string{"", "muster", "kube-proxy ipvs", "kube-proxy nftables"},
	}
	for _, keepAlive := range []bool{false, true} {
		kind := "one connection each"
		if keepAlive {
			kind = "kept connections"
		}
		for _, path := range paths() {
			row := []string{path + ", " + kind}
			for _, who := range contenders() {
				r, _ := find(all, who, size)
				row = append(row, dataCell(r, path, keepAlive))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

func dataCell(of result, path string, keepAlive bool) string {
	r, there := of.Data[dataKey(path, keepAlive)]
	switch {
	case of.Skipped != "":
		return of.Skipped
	case of.Cold.Over:
		return "never complete"
	case !there:
		return ""
	}
	text := fmt.Sprintf("%.0f; %.2f, %.2f", r.rate(), float64(r.P50)/1e6, float64(r.P99)/1e6)
	if r.Faults > 0 {
		text += fmt.Sprintf("; %d unanswered", r.Faults)
	}
	return text
}
