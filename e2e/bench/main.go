// SPDX-License-Identifier: Apache-2.0

// Command bench measures an install beside that of its peer: muster and
// kubeadm, in turn, each in fresh lab machines of the same kind. It prints what
// it found and, with -out, puts it into a section of a Markdown file.
//
// kubeadm has everything that can be there before it starts: programs copied,
// services running, images imported. muster has a machine with sshd. Nothing in
// here asserts a time: numbers are for people.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	runs   int
	out    string
	lab    string
	within time.Duration
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.IntVar(&o.runs, "runs", 3, "installs of each kind")
	flags.StringVar(&o.out, "out", "", "Markdown file whose install section is replaced (docs/benchmarks.md)")
	flags.StringVar(&o.lab, "lab", "bench", "name of the lab; one of that name is removed first")
	flags.DurationVar(&o.within, "within", 10*time.Minute, "how long one install, or one join, may take")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.runs < 1 || flags.NArg() > 0 {
		return o, errors.New("want -runs of at least 1 and no arguments")
	}
	return o, nil
}

// run is the program.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	where, err := document.Here(ctx)
	if err != nil {
		return err
	}
	b, cleanUp, err := prepare(ctx, o, errOut)
	if err != nil {
		return err
	}
	defer cleanUp()
	r, err := b.measure(ctx)
	if err != nil {
		return err
	}
	section, err := render(where, r)
	if err != nil {
		return err
	}
	if _, err := out.Write(section); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	return document.Section{Name: "install", By: "e2e/bench"}.Replace(o.out, section)
}
