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

// traceBound bounds the whole of trace: under strace a fork is slow.
const traceBound = 3 * time.Minute

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
	if made < tracedChanges || err != nil {
		s.say("system calls are not counted: %d changes within %s, %v; strace says %q", made, traceBound, err, said.String())
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	calls, err := totalCalls(string(text))
	s.result.Syscalls = float64(calls) / tracedChanges
	s.say("system calls per change: %.0f", s.result.Syscalls)
	return err
}

func (s *session) traced(ctx context.Context) (made int, err error) {
	for n := range tracedChanges {
		if err := pause(ctx, changePause); err != nil {
			return n, err
		}
		took, err := s.changeOnce(ctx, singleChanges+n)
		if err != nil || took.Over {
			return n, err
		}
	}
	return tracedChanges, pause(ctx, changePause)
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
