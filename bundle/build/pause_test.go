// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// buildPause compiles the program of the pause image.
func buildPause(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	if err := pauseBuild().make(t.Context(), &workshop{source: tree}, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pause")
}

func TestPauseIsSmall(t *testing.T) {
	program := buildPause(t)
	info, err := os.Stat(program)
	if err != nil || info.Size() > 4096 {
		t.Errorf("%d bytes, %v; there is one in memory per pod", info.Size(), err)
	}
	out, err := exec.Command(program, "-v").Output()
	if want := "pause " + pauseVersion + " (muster)\n"; err != nil || string(out) != want {
		t.Errorf("-v says %q, %v; want %q", out, err, want)
	}
}

func TestPauseEnds(t *testing.T) {
	program := buildPause(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.Command(program)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "pause waits for signals", func() bool { return strings.HasPrefix(statusField(cmd.Process.Pid, "State"), "S") })
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v, want exit code 0", sig, err)
		}
	}
}

// As PID 1 of a namespace pause inherits the orphans and has to collect them.
func TestPauseCollectsOrphans(t *testing.T) {
	program := buildPause(t)
	// The shell leaves ten children behind and becomes pause.
	cmd := exec.Command("/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.1 &); done; exec "+program)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	waitUntil(t, "pause runs", func() bool { return statusField(cmd.Process.Pid, "Name") == "pause" })
	waitUntil(t, "every orphan is gone, none a zombie", func() bool { return children(t, cmd.Process.Pid) == "" })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("as PID 1, after SIGTERM: %v", err)
	}
}

func statusField(pid int, field string) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func children(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("20 s, and still not so: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
