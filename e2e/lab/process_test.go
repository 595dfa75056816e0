// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n"
	for _, name := range []string{"sh", "a b", "a) R 1 2", "((("} {
		start, state, err := parseStat("17 (" + name + ")" + rest)
		if err != nil || start != 4242 || state != 'S' {
			t.Errorf("%q: start %d, state %c, %v", name, start, state, err)
		}
	}
	for _, line := range []string{"", "17 (sh) S 1", "17 sh" + rest[:20], "17 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x 20"} {
		if _, _, err := parseStat(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("17 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20")
	f.Add(")")
	f.Fuzz(func(t *testing.T, line string) {
		if _, state, err := parseStat(line); err == nil && state == 0 {
			t.Error("no error and no state")
		}
	})
}

// sleeper is a process that does nothing for a minute.
func sleeper(t *testing.T) Process {
	t.Helper()
	p := must[Process](t)(startDetached(exec.Command("sleep", "60")))
	t.Cleanup(func() {
		if err := p.signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	return p
}

func stateOf(t *testing.T, p Process) State { return must[State](t)(p.State()) }

func TestProcessStates(t *testing.T) {
	p := sleeper(t)
	if s := stateOf(t, p); s != Running {
		t.Fatalf("just started: %s", s)
	}
	if err := p.stop(t.Context()); err != nil || stateOf(t, p) != Paused {
		t.Fatalf("after stop: %v, %s", err, stateOf(t, p))
	}
	if err := p.signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "it runs again", func() bool { return stateOf(t, p) == Running })
	if err := p.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err != nil || stateOf(t, p) != Stopped {
		t.Fatalf("after kill: %v, %s", err, stateOf(t, p))
	}
	if err := p.stop(t.Context()); err == nil {
		t.Error("an ended process was paused")
	}
	if err := errors.Join(p.signal(unix.SIGKILL), p.wait(t.Context())); err != nil {
		t.Errorf("killing an ended process: %v", err)
	}
}

// A process id that went to somebody else must never take a signal.
func TestReusedProcessIDIsLeftAlone(t *testing.T) {
	p := sleeper(t)
	for _, old := range []Process{
		{PID: p.PID, Start: p.Start - 1, Boot: p.Boot},
		{PID: p.PID, Start: p.Start, Boot: "another boot"},
	} {
		if s := stateOf(t, old); s != Stopped {
			t.Errorf("%+v is %s", old, s)
		}
		if err := errors.Join(old.signal(unix.SIGKILL), old.wait(t.Context())); err != nil {
			t.Error(err)
		}
	}
	if s := stateOf(t, p); s != Running {
		t.Fatalf("the process that has the id now is %s", s)
	}
}

func TestWaitListensToItsContext(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer cancel()
	if err := sleeper(t).wait(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestProcessFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), processFile)
	if p, err := loadProcess(path); err != nil || stateOf(t, p) != Stopped {
		t.Errorf("no file: %+v, %v", p, err)
	}
	p := sleeper(t)
	if err := p.save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := loadProcess(path); err != nil || got != p {
		t.Errorf("got %+v, %v, want %+v", got, err, p)
	}
}
