// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-project/muster/agent"
)

func TestExec(t *testing.T) {
	out, err := agent.Exec{}.Run(t.Context(), strings.NewReader("in"), "sh", "-c", `cat; echo " $LC_ALL $1"`, "sh", "a b")
	if err != nil || string(out) != "in C a b\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestExecExit(t *testing.T) {
	out, err := agent.Exec{}.Run(t.Context(), nil, "sh", "-c", "echo out; echo no room >&2; exit 3")
	var exit *agent.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || exit.Stderr != "no room\n" || string(out) != "out\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	if !strings.HasSuffix(err.Error(), ": exit 3: no room") {
		t.Errorf("got %q", err)
	}
	_, err = agent.Exec{}.Run(t.Context(), nil, "sh", "-c", "kill -TERM $$")
	if !errors.As(err, &exit) || exit.Code != -1 {
		t.Errorf("killed: %v", err)
	}
}

// A program that is not there is told from one that failed.
func TestExecMissing(t *testing.T) {
	for _, program := range []string{"/nonexistent/muster-test", "muster-test-nonexistent"} {
		_, err := agent.Exec{}.Run(t.Context(), nil, program)
		var exit *agent.ExitError
		if errors.As(err, &exit) || !(errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "not found")) {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// A program that ends with its context takes its children with it.
func TestExecCancelEndsTheGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := agent.Exec{}.Run(ctx, nil, "sh", "-c", `sleep 600 & echo $! > "$1.new"; mv "$1.new" "$1"; wait`, "sh", file)
		ended <- err
	}()
	child := 0
	eventually(t, "the child to start", func() bool {
		text, err := os.ReadFile(file)
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	eventually(t, "the child to end", func() bool { return !running(child) })
}

// running reports whether a process is there and not just waiting to be reaped.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestTail(t *testing.T) {
	for _, c := range []struct {
		writes []string
		want   string
	}{
		{nil, ""},
		{[]string{"abc"}, "abc"},
		{[]string{"abc", "defg"}, "cdefg"},
		{[]string{"0123456789"}, "56789"},
		{[]string{"ab", "", "cde"}, "abcde"},
	} {
		w, got := agent.Tail(5)
		for _, text := range c.writes {
			if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("%q: %d, %v", text, n, err)
			}
		}
		if got() != c.want {
			t.Errorf("%q: kept %q, want %q", c.writes, got(), c.want)
		}
	}
}
