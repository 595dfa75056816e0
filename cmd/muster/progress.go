// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan"
)

// runProgress shows a run while it happens: on a terminal one line per host
// that says what it is doing, and everywhere one line per task that changed something, failed
// or took a while.
type runProgress struct {
	ended  func() error // not nil once the person has had enough
	out    io.Writer
	start  time.Time
	writer progress.Writer // nil on a pipe
	hosts  map[string]*progress.Tracker
	stops  chan struct{}
}

// most is how many hosts get a line of their own on a terminal.
const most = 20

// newProgress shows times since begun.
func newProgress(ctx context.Context, s streams, p plan.Plan, begun time.Time) *runProgress {
	r := &runProgress{ended: ctx.Err, out: s.err, start: begun, hosts: make(map[string]*progress.Tracker)}
	hosts := p.Hosts()
	if !isTerminal(s.err) || len(hosts) > most {
		return r
	}
	r.writer = progress.NewWriter()
	r.writer.SetOutputWriter(s.err)
	r.writer.SetAutoStop(false)
	r.writer.SetUpdateFrequency(200 * time.Millisecond)
	r.writer.SetTrackerPosition(progress.PositionRight)
	r.writer.SetMessageLength(64)
	r.writer.Style().Options.TimeInProgressPrecision = time.Second
	r.writer.Style().Options.TimeDonePrecision = time.Second
	r.writer.Style().Visibility.ETA = false
	r.writer.Style().Visibility.Speed = false
	r.writer.Style().Visibility.Percentage = false
	r.writer.Style().Visibility.Value = false
	for _, name := range hosts {
		t := &progress.Tracker{Message: name, Total: int64(count(p, name)), RemoveOnCompletion: true}
		r.hosts[name] = t
		r.writer.AppendTracker(t)
	}
	r.stops = make(chan struct{})
	go func() {
		defer close(r.stops)
		r.writer.Render()
	}()
	return r
}

func count(p plan.Plan, host string) int {
	n := 0
	for _, t := range p.Tasks {
		if t.Host == host {
			n++
		}
	}
	return n
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (r *runProgress) event(e plan.Event) {
	switch e.Kind {
	case plan.StepSaid:
		if t := r.hosts[e.Task.Host]; t != nil && e.Step.State == protocol.Started {
			t.UpdateMessage(fmt.Sprintf("%s  %s: %s", e.Task.Host, e.Task.Phase, e.Step.Text))
		}
	case plan.TaskFinished:
		if t := r.hosts[e.Task.Host]; t != nil {
			t.Increment(1)
		}
		if e.Err == nil && e.Changed == 0 && e.Took < worthALine {
			return
		}
		r.line(taskLine(time.Since(r.start), e, r.ended() != nil))
	}
}

// worthALine is how long a task that changes nothing may take unmentioned.
const worthALine = time.Second

func taskLine(since time.Duration, e plan.Event, ended bool) string {
	outcome := "done"
	if e.Err != nil {
		outcome = "FAILED"
		switch {
		case errors.Is(e.Err, plan.ErrNotRun):
			outcome = "not run"
		case ended:
			outcome = "stopped"
		}
	}
	what := e.Task.Phase
	if e.Task.Part != "" {
		what += " (" + e.Task.Part + ")"
	}
	line := fmt.Sprintf("%6.1fs  %-12s %-32s %s in %.1fs", since.Seconds(), e.Task.Host, what, outcome, e.Took.Seconds())
	if e.Changed > 0 {
		line += fmt.Sprintf(", %d changed", e.Changed)
	}
	return line
}

func (r *runProgress) line(text string) {
	if r.writer != nil {
		r.writer.Log(text)
		return
	}
	fmt.Fprintln(r.out, text)
}

// stop ends the live part and leaves the cursor below it.
func (r *runProgress) stop() {
	if r.writer == nil {
		return
	}
	r.writer.Stop()
	<-r.stops
}

// printReport says what a run came to.
func printReport(s streams, r plan.Report, sent int64) error {
	if r.Changed == 0 {
		_, err := fmt.Fprintf(s.out, "Everything was as the inventory says: %d steps looked at, nothing written, in %.1fs.\n", r.Right, r.Took.Seconds())
		return err
	}
	t := newTable(s.err)
	t.AppendHeader(table.Row{"PHASE", "FROM", "TO"})
	for _, p := range r.Phases() {
		t.AppendRow(table.Row{p.Phase, fmt.Sprintf("%.1fs", p.Begin.Seconds()), fmt.Sprintf("%.1fs", p.End.Seconds())})
	}
	t.Render()
	_, err := fmt.Fprintf(s.out, "%s changed something, %d were right; %s sent; %.1fs in all.\n",
		plural(r.Changed, "step"), r.Right, bytesText(sent), r.Took.Seconds())
	return err
}

// runJSON is what init, apply, join and phase print with -o json. Programs
// read it: fields are added, never changed. Times are seconds since the command
// began.
type runJSON struct {
	Schema    string      `json:"schema"` // muster/run/v1
	Seconds   float64     `json:"seconds"`
	Changed   int         `json:"changed"`   // steps
	Right     int         `json:"right"`     // steps that needed nothing
	BytesSent int64       `json:"bytesSent"` // of the bundle, compressed
	Phases    []phaseJSON `json:"phases"`    // in the order they began; they overlap
	Tasks     []taskJSON  `json:"tasks"`     // in the plan's order
}

type phaseJSON struct {
	Phase string  `json:"phase"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
}

type taskJSON struct {
	Task    plan.ID `json:"task"`
	From    float64 `json:"from"`
	To      float64 `json:"to"`
	Changed int     `json:"changed"`
}

func printReportJSON(out io.Writer, r plan.Report, sent int64) error {
	run := runJSON{
		Schema: "muster/run/v1", Seconds: seconds(r.Took), Changed: r.Changed, Right: r.Right, BytesSent: sent,
		Phases: []phaseJSON{}, Tasks: []taskJSON{},
	}
	for _, p := range r.Phases() {
		run.Phases = append(run.Phases, phaseJSON{p.Phase, seconds(p.Begin), seconds(p.End)})
	}
	for _, t := range r.Tasks {
		run.Tasks = append(run.Tasks, taskJSON{t.Task.ID(), seconds(t.Begin), seconds(t.Begin + t.Took), t.Changed})
	}
	return printJSON(out, run)
}

// seconds is exact to the millisecond: more would only look exact.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
