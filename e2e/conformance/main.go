// SPDX-License-Identifier: Apache-2.0

// Command conformance runs Kubernetes' own end-to-end tests of Services against
// a cluster that muster installed on lab machines, and writes what became of
// each spec, with the reason, into a section of a Markdown file.
//
// The tests are upstream's, built unchanged from their module (suite/go.mod
// pins it); so are the programs in the images that they run. Each process runs
// a few specs and has a time limit. Results are kept, so a run that was cut goes
// on where it stopped; -fresh begins again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	out    string
	lab    string
	focus  *regexp.Regexp
	again  bool
	fresh  bool
	keep   bool
	dual   bool
	atOnce int
	batch  int
	limit  time.Duration
	budget time.Duration
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{focus: regexp.MustCompile("")}
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.out, "out", "", "Markdown file whose section is replaced (docs/conformance.md)")
	flags.StringVar(&o.lab, "lab", "conformance", "name of the lab; one of that name is removed first, unless -keep")
	flags.Func("focus", "run only specs that this regular expression matches", func(s string) (err error) {
		o.focus, err = regexp.Compile(s)
		return err
	})
	flags.BoolVar(&o.again, "again", false, "run specs again that did not pass")
	flags.BoolVar(&o.fresh, "fresh", false, "forget all earlier results")
	flags.BoolVar(&o.keep, "keep", false, "leave the lab running, and use the one that was left")
	flags.BoolVar(&o.dual, "dual-stack", false, "make a cluster of IPv4 and IPv6, with results of its own")
	flags.IntVar(&o.atOnce, "at-once", 1, "processes that run at the same time, except with serial specs")
	flags.IntVar(&o.batch, "batch", 5, "specs of one process: its start takes seconds, its results come at its end")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long one spec may take, on average over its process")
	flags.DurationVar(&o.budget, "budget", 2*time.Hour, "how long all specs may take; the rest is left for another run")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.atOnce < 1 || o.batch < 1 || o.limit <= 0 || o.budget <= 0 {
		return o, errors.New("want no arguments, -at-once and -batch of at least 1, and positive times")
	}
	return o, nil
}

// run is the program.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	here, err := document.Here(ctx)
	if err != nil {
		return err
	}
	say := newSay(errOut)
	w, cleanUp, err := prepare(ctx, o.dual, say)
	if err != nil {
		return err
	}
	defer cleanUp()
	specs, err := w.suite.specs(ctx)
	if err != nil {
		return err
	}
	results, err := openResults(w.resultsDir(), o.fresh)
	if err != nil {
		return err
	}
	if err := w.runAll(ctx, o, choose(specs, o.dual), results); err != nil {
		return err
	}
	section, err := render(w.describe(here), specs, results.all())
	if err != nil {
		return err
	}
	if o.out == "" {
		_, err = out.Write(section)
		return err
	}
	return document.Section{Name: "conformance", By: "e2e/conformance"}.Replace(o.out, section)
}

// newSay gives a function that reports progress with the time since the start.
func newSay(out io.Writer) func(format string, args ...any) {
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(out, "%8.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}
