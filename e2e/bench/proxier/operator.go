// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
	"github.com/muster-project/muster/e2e/lab"
	"github.com/muster-project/muster/e2e/program"
)

// options are the command line.
type options struct {
	sizes  []int
	out    string
	lab    string
	bound  time.Duration
	budget time.Duration
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("proxier", flag.ContinueOnError)
	flags.SetOutput(errOut)
	sizes := flags.String("sizes", "100,1000,5000,10000", "numbers of Services")
	flags.StringVar(&o.out, "out", "", "Markdown file whose proxier section is replaced (docs/benchmarks.md)")
	flags.StringVar(&o.lab, "lab", "bench-proxier", "name of the lab; one of that name is removed first")
	flags.DurationVar(&o.bound, "bound", 10*time.Minute, "how long each measurement may take")
	flags.DurationVar(&o.budget, "budget", 2*time.Hour, "how long all may take; what is not begun by then is left out")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 || n > 50_000 {
			return o, fmt.Errorf("-sizes: %q: not a number from 2 to 50000", text)
		}
		o.sizes = append(o.sizes, n)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q: this program takes flags only", flags.Arg(0))
	}
	return o, nil
}

// The lab: one machine, with room for an API server's and a contender's
// memory of the largest size.
const (
	machine   = "cp-1"
	memoryMiB = 3072
	// programsDir is where the programs lie in it.
	programsDir = "/opt/bench"
	// idleServices is the size at which memory alone is measured.
	idleServices = 10
	// patience is how long the lab itself may take.
	patience = 5 * time.Minute
)

// operator measures from outside of the machine.
type operator struct {
	options
	progress io.Writer
	start    time.Time
	lab      *lab.Lab
	failures []error
}

// operate is the program outside of the machine.
func operate(ctx context.Context, args []string, out, errOut io.Writer) error {
	o := &operator{progress: errOut, start: time.Now()}
	var err error
	if o.options, err = parse(args, errOut); err != nil {
		return err
	}
	where, err := document.Here(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	o.say("building the programs")
	if err := build(ctx, dir); err != nil {
		return err
	}
	idle, full, err := o.measure(ctx, dir)
	if err != nil {
		return err
	}
	section, err := render(where, o.options, time.Since(o.start), idle, full)
	if err != nil {
		return err
	}
	if _, err := out.Write(section); err != nil {
		return err
	}
	if o.out != "" {
		err = document.Section{Name: "proxier", By: "e2e/bench/proxier"}.Replace(o.out, section)
	}
	return errors.Join(append(o.failures, err)...)
}

func (o *operator) say(format string, args ...any) {
	fmt.Fprintf(o.progress, "%7.1fs  %s\n", time.Since(o.start).Seconds(), fmt.Sprintf(format, args...))
}

// measure does everything in one machine: memory at a handful of Services,
// then each size.
func (o *operator) measure(ctx context.Context, dir string) (idle, full []result, err error) {
	if err := lab.Down(ctx, o.options.lab); err != nil {
		return nil, nil, fmt.Errorf("remove an earlier lab %s: %w", o.options.lab, err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, lab.Down(ending, o.options.lab))
	}()
	if err := o.up(ctx, dir); err != nil {
		return nil, nil, err
	}
	for _, who := range contenders() {
		r, err := o.node(ctx, who, idleServices, "-memory-only")
		if err != nil {
			return nil, nil, err
		}
		idle = append(idle, r)
	}
	for _, size := range o.sizes {
		for _, who := range contenders() {
			r, err := o.node(ctx, who, size)
			if err != nil {
				return nil, nil, err
			}
			full = append(full, r)
		}
	}
	return idle, full, nil
}

// up makes the machine and brings the programs.
func (o *operator) up(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o.say("making the machine")
	o.lab, err = lab.Up(ctx, lab.Spec{
		Name: o.options.lab, Machines: lab.Standard(1, 0, 0, memoryMiB), Bare: true,
		Forwarder: []string{filepath.Join(dir, "muster"), "lab", "forward"},
	}, nil)
	if err != nil {
		return err
	}
	// It exits with 1 where some unit failed, which is no matter here.
	if _, err := o.lab.Run(ctx, machine, "systemctl is-system-running --wait >/dev/null || true"); err != nil {
		return err
	}
	ssh, err := o.lab.SSH(machine)
	if err != nil {
		return err
	}
	pack := exec.CommandContext(ctx, "tar", "-c", "-C", filepath.Join(dir, "send"), ".")
	unpack := exec.CommandContext(ctx, ssh[0], append(ssh[1:], "mkdir -p "+programsDir+" && tar -x -C "+programsDir)...)
	if unpack.Stdin, err = pack.StdoutPipe(); err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	_, err = program.Output(unpack)
	return errors.Join(err, pack.Wait())
}

// node measures one contender at one size. One that cannot be measured is
// reported as such, and the next has its turn.
func (o *operator) node(ctx context.Context, who contender, services int, more ...string) (result, error) {
	r := result{Contender: who, Services: services}
	if time.Since(o.start) > o.budget {
		r.Skipped = "no time left"
		return r, nil
	}
	o.say("%s, %d Services", who, services)
	ssh, err := o.lab.SSH(machine)
	if err != nil {
		return r, err
	}
	args := append([]string{"unshare", "--net", programsDir + "/bench", "node", "-contender", string(who),
		"-services", strconv.Itoa(services), "-bound", o.bound.String()}, more...)
	command := exec.CommandContext(ctx, ssh[0], append(ssh[1:], args...)...)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, o.progress
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		o.failures = append(o.failures, fmt.Errorf("%s with %d Services: %w", who, services, err))
		r.Skipped = "could not be measured"
		return r, nil
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("read what the machine measured: %w in %.200q", err, out.Bytes())
	}
	return r, nil
}

// find gives the result of a contender at a size.
func find(all []result, who contender, services int) (result, bool) {
	i := slices.IndexFunc(all, func(r result) bool { return r.Contender == who && r.Services == services })
	if i < 0 {
		return result{}, false
	}
	return all[i], true
}
