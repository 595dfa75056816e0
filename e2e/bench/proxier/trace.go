// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// No change is begun after traceTime; under strace a fork is slow.
const (
	traceTime  = 30 * time.Second
	traceBound = 2 * time.Minute
)

// stracePath is where strace lies beside this program, with the libraries it
// needs; the machine has none of its own.
func stracePath(programs string) (loader string, args []string) {
	dir := filepath.Join(programs, "strace")
	return filepath.Join(dir, "loader"), []string{"--library-path", dir, filepath.Join(dir, "strace")}
}

// trace counts system calls of the contender and of what it starts, while
// single endpoints are replaced. Without strace there is no count.
func (s *session) trace(ctx context.Context) error {
	loader, args := stracePath(s.programs)
	if _, err := os.Stat(loader); err != nil {
		s.say("system calls are not counted: no strace")
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, traceBound, errOver)
	defer cancel()
	file := filepath.Join(s.dir, "strace")
	command := exec.CommandContext(ctx, loader, append(args, "-q", "-f", "-c", "-o", file, "-p", strconv.Itoa(s.process.command.Process.Pid))...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) } // it lets go of what it traces
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		return fmt.Errorf("start strace: %w", err)
	}
	made, err := s.traced(ctx)
	cancel()
	_ = command.Wait() // it ends by the signal that was sent
	if err != nil {
		s.say("system calls are not counted: %v after %d changes; strace says %q", err, made, said.String())
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	calls, err := totalCalls(string(text))
	s.result.Syscalls = float64(calls) / float64(made)
	s.say("system calls per change: %.0f, of %d", s.result.Syscalls, made)
	return err
}

// traced makes at least one change, and waits after each for what it entails.
func (s *session) traced(ctx context.Context) (made int, err error) {
	begin := time.Now()
	for made == 0 || made < tracedChanges && time.Since(begin) < traceTime {
		took, err := s.changeOnce(ctx, singleChanges+made)
		if err == nil && took.Over {
			err = errOver
		}
		if err == nil {
			err = pause(ctx, changePause)
		}
		if err != nil {
			return made, err
		}
		made++
	}
	return made, nil
}

// totalCalls reads the last line of strace's table:
//
//	100.00    0.012345          12      1234        56 total
func totalCalls(table string) (int, error) {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 4 && f[len(f)-1] == "total" {
			return strconv.Atoi(f[3])
		}
	}
	return 0, fmt.Errorf("strace's table has no total:\n%s", table)
}
