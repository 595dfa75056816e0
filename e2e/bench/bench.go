// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/e2e/lab"
	"github.com/muster-project/muster/e2e/program"
)

// The machines of a lab, both up from the start.
const (
	controlPlane = "cp-1"
	worker       = "w-1"
	memoryMiB    = 2048
)

// bench is what is needed to measure.
type bench struct {
	options
	progress io.Writer
	start    time.Time
	dir      string // temporary
	muster   string // the program
	bundle   *bundle.Bundle
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%7.1fs  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

// prepare builds muster and the bundle, the peer's part included, from the
// source tree around the working directory.
func prepare(ctx context.Context, o options, progress io.Writer) (_ *bench, cleanUp func(), err error) {
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	b := &bench{options: o, progress: progress, start: time.Now(), dir: dir, muster: filepath.Join(dir, "muster")}
	b.say("building muster and the bundle")
	if _, err := program.Output(exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.muster, "github.com/muster-project/muster/cmd/muster")); err != nil {
		return nil, nil, err
	}
	if _, err := program.Output(exec.CommandContext(ctx, b.muster, "bundle", "build", "--group", "core,test,peer")); err != nil {
		return nil, nil, err
	}
	listed, err := program.Output(exec.CommandContext(ctx, b.muster, "bundle", "list", "-o", "json"))
	if err != nil {
		return nil, nil, err
	}
	var place struct {
		Directory string `json:"directory"`
	}
	if err := json.Unmarshal(listed, &place); err != nil {
		return nil, nil, fmt.Errorf("read the bundle's list: %w", err)
	}
	b.bundle, err = bundle.Open(place.Directory)
	return b, remove, err
}

// measure does all runs, the two sides in turn and each first in every other
// run: a computer that gets slower, or warmer, does so for both.
func (b *bench) measure(ctx context.Context) (results, error) {
	var r results
	muster := func() error { return withLab(ctx, b, &r.muster, b.musterRun) }
	peer := func() error { return withLab(ctx, b, &r.peer, b.peerRun) }
	for i := range b.runs {
		b.say("run %d of %d", i+1, b.runs)
		first, second := muster, peer
		if i%2 == 1 {
			first, second = peer, muster
		}
		if err := errors.Join(first(), ctx.Err()); err != nil {
			return r, err
		}
		if err := errors.Join(second(), ctx.Err()); err != nil {
			return r, err
		}
	}
	return r, nil
}

// patience is how long the lab itself may take; it asserts nothing.
const patience = 5 * time.Minute

// withLab measures one run in machines of its own, which are gone afterwards
// also when the run failed or was interrupted.
func withLab[T any](ctx context.Context, b *bench, runs *[]T, one func(context.Context, *lab.Lab) (T, error)) (err error) {
	if err := lab.Down(ctx, b.lab); err != nil {
		return fmt.Errorf("remove an earlier lab %s: %w", b.lab, err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, lab.Down(ending, b.lab))
	}()
	up, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := lab.Up(up, lab.Spec{
		Name: b.lab, Machines: lab.Standard(1, 1, 0, memoryMiB), Forwarder: []string{b.muster, "lab", "forward"},
	}, nil)
	if err != nil {
		return err
	}
	if err := settle(up, l); err != nil {
		return err
	}
	r, err := one(ctx, l)
	if err != nil {
		return err
	}
	*runs = append(*runs, r)
	return nil
}

// settle waits until the machines have finished booting: sshd is up before
// that, and the rest would be on somebody's clock.
func settle(ctx context.Context, l *lab.Lab) error {
	for _, machine := range []string{controlPlane, worker} {
		// It exits with 1 where some unit failed, which is no matter here.
		if _, err := l.Run(ctx, machine, "systemctl is-system-running --wait >/dev/null || true"); err != nil {
			return err
		}
	}
	return nil
}

// timed measures one command, on a machine or about it.
func (b *bench) timed(ctx context.Context, l *lab.Lab, machine, what string, do func(context.Context) error) (cost, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.within, fmt.Errorf("not within %s (-within)", b.within))
	defer cancel()
	kernel, err := kernelOf(l, machine)
	if err != nil {
		return cost{}, err
	}
	cpu, err := machineCPU(kernel)
	if err != nil {
		return cost{}, err
	}
	start := time.Now()
	if err := do(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return cost{}, fmt.Errorf("%s: %w", what, err)
	}
	wall := time.Since(start)
	after, err := machineCPU(kernel)
	if err != nil {
		return cost{}, err
	}
	b.say("%s: %.1fs, %.1fs of CPU", what, wall.Seconds(), (after - cpu).Seconds())
	return cost{wall, after - cpu}, nil
}

func kernelOf(l *lab.Lab, machine string) (int, error) {
	all, err := l.Machines()
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if m.Name == machine {
			return m.PID, nil
		}
	}
	return 0, fmt.Errorf("lab %s has no machine %s", l.Name(), machine)
}
