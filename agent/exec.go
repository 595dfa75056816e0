// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Exec runs programs of the host.
type Exec struct{}

// ExitError says that a program ran and ended without success.
type ExitError struct {
	Argv   []string
	Code   int    // -1 if a signal ended it
	Stderr string // its last 2 KiB
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit %d: %s", strings.Join(e.Argv, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// ExitCode returns the program's exit code.
func (e *ExitError) ExitCode() int { return e.Code }

// Run runs argv with the C locale and returns its standard output. When ctx
// ends, the program's whole process group is ended with it.
func (Exec) Run(ctx context.Context, stdin io.Reader, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/opt/muster/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = stdin
	var stdout bytes.Buffer
	stderr := tail{limit: 2 << 10}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.Bytes(), &ExitError{argv, exit.ExitCode(), string(stderr.data)}
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return stdout.Bytes(), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	data  []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.limit; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}
