// SPDX-License-Identifier: Apache-2.0

package main

import (
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
// that says what it is doing, and everywhere one line per task that ended.
type runProgress struct {
	out    io.Writer
	start  time.Time
	writer progress.Writer // nil on a pipe
	hosts  map[string]*progress.Tracker
	stops  chan struct{}
}

// most is how many hosts get a line of their own on a terminal.
const most = 20

func newProgress(s streams, p plan.Plan) *runProgress {
	r := &runProgress{out: s.err, start: time.Now(), hosts: make(map[string]*progress.Tracker)}
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
	r.writer.Style().Visibility.ETA = false
	r.writer.Style().Visibility.Speed = false
	r.writer.Style().Visibility.Percentage = false
	for _, name := range hosts {
		t := &progress.Tracker{Message: name, Total: int64(count(p, name))}
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
		r.line(taskLine(time.Since(r.start), e))
	}
}

func taskLine(since time.Duration, e plan.Event) string {
	outcome := "done"
	if e.Err != nil {
		outcome = "FAILED"
		if errors.Is(e.Err, plan.ErrNotRun) {
			outcome = "not run"
		}
	}
	what := e.Task.Phase
	if e.Task.Part != "" {
		what += " (" + e.Task.Part + ")"
	}
	return fmt.Sprintf("%6.1fs  %-12s %-32s %s in %.1fs", since.Seconds(), e.Task.Host, what, outcome, e.Took.Seconds())
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
	_, err := fmt.Fprintf(s.out, "%d steps changed something, %d were right; %s sent; %.1fs in all.\n",
		r.Changed, r.Right, bytesText(sent), r.Took.Seconds())
	return err
}
