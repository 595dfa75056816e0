// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
)

// section is what files/section.md.tmpl is rendered from.
type section struct {
	document.Place
	Runs     int
	Rows     []row
	Phases   []span // of muster's median init
	Reach    string // seconds before the first phase: connect, bring muster-node, ask
	Sent     string // MB, by init
	JoinSent string
	Ignored  string
}

// row is one comparison.
type row struct{ What, Muster, Peer, Ratio string }

func render(where document.Place, r results) ([]byte, error) {
	text, err := files.ReadFile("files/section.md.tmpl")
	if err != nil {
		return nil, err
	}
	t, err := template.New("section").Funcs(template.FuncMap{"s": func(v float64) string { return fmt.Sprintf("%.1f", v) }}).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, summary(where, r))
	return out.Bytes(), err
}

func summary(where document.Place, r results) section {
	init := func(m musterRun) time.Duration { return m.init.wall }
	typical := medianRun(r.muster, init)
	join := medianRun(r.muster, func(m musterRun) time.Duration { return m.join.wall })
	return section{
		Place: where, Runs: len(r.muster),
		Rows:     rows(r),
		Phases:   typical.initReport.Phases,
		Reach:    text(reach(typical.initReport)),
		Sent:     megabytes(typical.initReport.BytesSent),
		JoinSent: megabytes(join.joinReport.BytesSent),
		Ignored:  strings.Join(ignored, ", "),
	}
}

func rows(r results) []row {
	type (
		ours  = func(musterRun) time.Duration
		peers = func(peerRun) time.Duration
	)
	compare := func(what string, m ours, p peers) row {
		return row{what, list(r.muster, m), list(r.peer, p), ratio(median(r.peer, p), median(r.muster, m))}
	}
	alone := func(what string, p peers) row { return row{what, "in the line above", list(r.peer, p), ""} }
	return []row{
		compare("control plane", func(m musterRun) time.Duration { return m.init.wall }, func(p peerRun) time.Duration { return p.init.wall }),
		compare("the same in CPU time of the machine", func(m musterRun) time.Duration { return m.init.cpu }, func(p peerRun) time.Duration { return p.init.cpu }),
		alone("before that: copy programs", func(p peerRun) time.Duration { return p.prepared.copyPrograms }),
		alone("before that: copy images", func(p peerRun) time.Duration { return p.prepared.copyImages }),
		alone("before that: import images", func(p peerRun) time.Duration { return p.prepared.importImages }),
		compare("control plane from a bare machine", func(m musterRun) time.Duration { return m.init.wall },
			func(p peerRun) time.Duration { return p.prepared.all() + p.init.wall }),
		compare("join of a worker", func(m musterRun) time.Duration { return m.join.wall }, func(p peerRun) time.Duration { return p.join.wall }),
		compare("the same in CPU time of the machine", func(m musterRun) time.Duration { return m.join.cpu }, func(p peerRun) time.Duration { return p.join.cpu }),
	}
}

// list is the median, and all values in the order they were measured.
func list[T any](runs []T, of func(T) time.Duration) string {
	var all []string
	for _, r := range runs {
		all = append(all, text(of(r)))
	}
	return fmt.Sprintf("**%s** (%s)", text(median(runs, of)), strings.Join(all, ", "))
}

func text(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func ratio(peer, muster time.Duration) string {
	return fmt.Sprintf("%.1f", peer.Seconds()/muster.Seconds())
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

// reach is how long hosts were being reached: until the first phase began.
func reach(r runReport) time.Duration {
	if len(r.Phases) == 0 {
		return 0
	}
	return time.Duration(r.Phases[0].From * float64(time.Second))
}
