// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one line of progress.
type Event struct {
	Part    string        // "kernel", "root", "network", or a machine's name
	What    string        // what is being done, or was
	Elapsed time.Duration // since Up began
}

func (e Event) String() string {
	return fmt.Sprintf("%6.1fs  %-8s %s", e.Elapsed.Seconds(), e.Part, e.What)
}

// teller passes events on one at a time.
type teller struct {
	mu    sync.Mutex
	begun time.Time
	tell  func(Event)
}

func newTeller(tell func(Event)) *teller {
	if tell == nil {
		tell = func(Event) {}
	}
	return &teller{begun: time.Now(), tell: tell}
}

func (t *teller) say(part, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tell(Event{Part: part, What: what, Elapsed: time.Since(t.begun)})
}

// about gives a function that tells of one part.
func (t *teller) about(part string) func(what string) {
	return func(what string) { t.say(part, what) }
}

// tellEvery is how long a person has to look at the same line.
const tellEvery = 5 * time.Second

// errorLines is how much of a failed program's output is shown.
const errorLines = 12

// runTold runs a program that takes long, tells now and then what it printed
// last, and ends it with its children when the context ends.
func runTold(ctx context.Context, say func(string), dir, what string, argv ...string) error {
	say(what)
	out := &tail{keep: errorLines}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", what, context.Cause(ctx))
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				// Not wrapped: muster's own exit code is not that program's.
				return fmt.Errorf("%s: %s: %s: it printed:\n%s", what, argv[0], exit.Error(), out)
			}
			return err
		case <-tick.C:
			say(strings.TrimSuffix(what+": "+out.last(), ": "))
		}
	}
}

// tail keeps the last lines of what is written to it.
type tail struct {
	mu    sync.Mutex
	keep  int
	lines []string
	part  []byte // the unfinished last line
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	for {
		end := bytes.IndexAny(t.part, "\r\n")
		if end < 0 {
			return len(p), nil
		}
		if line := strings.TrimSpace(string(t.part[:end])); line != "" {
			t.lines = append(t.lines, line)
			t.lines = t.lines[max(0, len(t.lines)-t.keep):]
		}
		t.part = t.part[end+1:]
	}
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return t.lines[len(t.lines)-1]
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(t.lines[:len(t.lines):len(t.lines)], string(t.part)), "\n")
}
