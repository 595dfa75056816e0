// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/remote"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

func TestRun(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial(t)
	res, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"sh", "-c", `cat; printf '%s' "$1" >&2`, "x", "it's $HOME"}, Stdin: []byte("in\x00put")})
	if err != nil {
		t.Fatal(err)
	}
	if string(res.Stdout) != "in\x00put" || string(res.Stderr) != "it's $HOME" {
		t.Errorf("out %q, err %q", res.Stdout, res.Stderr)
	}
}

func TestRunSaysHowACommandEnded(t *testing.T) {
	f := newFixture(t, func(c *sshtest.Config) {
		shell := c.Exec
		c.Exec = func(call sshtest.Call) int {
			if call.Line == "die" {
				return -1
			}
			return shell(call)
		}
	})
	c := f.dial(t)
	cmd := remote.Cmd{Argv: []string{"sh", "-c", "echo out; echo bad s3cret >&2; exit 7", "s3cret"}, Secrets: []string{"s3cret"}}
	res, err := c.Run(t.Context(), cmd)
	var exit *remote.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Signal != "" {
		t.Fatalf("got %v; want exit code 7", err)
	}
	if string(res.Stdout) != "out\n" {
		t.Errorf("output %q", res.Stdout)
	}
	mustContain(t, err.Error(), "bad ***")
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error tells the secret: %v", err)
	}
	if line := f.server.Commands()[0]; !strings.Contains(line, "s3cret") {
		t.Errorf("masking changed what went over the wire: %s", line)
	}
	_, err = c.Run(t.Context(), remote.Cmd{Argv: []string{"die"}})
	if !errors.As(err, &exit) || exit.Signal != "KILL" || exit.Code != -1 {
		t.Errorf("got %v; want signal KILL", err)
	}
}

func TestRunRefusesEndlessOutput(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	_, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"cat", "/dev/zero"}})
	if err == nil {
		t.Fatal("collected endless output")
	}
	mustContain(t, err.Error(), "more than 16 MiB")
}

func TestRunOfACommandThatIgnoresItsInput(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	res, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"echo", "done"}, Stdin: make([]byte, 8<<20)})
	if err != nil || string(res.Stdout) != "done\n" {
		t.Errorf("got %q, %v", res.Stdout, err)
	}
}

func TestSessionTalksBothWays(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	s, err := c.Start(t.Context(), remote.Cmd{Argv: []string{"sh", "-c", `while read l; do echo "got $l"; done; echo bye >&2; exit 3`}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := bufio.NewScanner(s)
	for _, word := range []string{"a", "b"} {
		if _, err := io.WriteString(s, word+"\n"); err != nil {
			t.Fatal(err)
		}
		if !in.Scan() || in.Text() != "got "+word {
			t.Fatalf("read %q, %v", in.Text(), in.Err())
		}
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if in.Scan() || in.Err() != nil {
		t.Errorf("read %q, %v; want a clean end", in.Text(), in.Err())
	}
	var exit *remote.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Code != 3 || s.Stderr() != "bye\n" {
		t.Errorf("ended with %v, stderr %q", err, s.Stderr())
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("wrote to a command that has ended")
	}
}

func TestSessionKeepsOutputOfAnEndedCommand(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	s, err := c.Start(t.Context(), remote.Cmd{Argv: []string{"sh", "-c", "head -c 100000 /dev/zero"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, s); n != 100000 || err != nil {
		t.Errorf("read %d bytes, %v; want 100000", n, err)
	}
}

func TestCancelEndsEveryBlockedCall(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Start(ctx, remote.Cmd{Argv: []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 4)
	go func() { _, err := s.Read(make([]byte, 1)); ends <- err }()
	go func() { _, err := io.Copy(s, endless{}); ends <- err }()
	go func() { ends <- s.Wait() }()
	go func() { _, err := c.Run(ctx, remote.Cmd{Argv: []string{"sleep", "60"}}); ends <- err }()
	time.AfterFunc(50*time.Millisecond, cancel)
	within(t, 3*time.Second, func() {
		for range 4 {
			if err := <-ends; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v; want the context's end", err)
			}
		}
	})
	if _, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"true"}}); err != nil {
		t.Errorf("the connection did not outlive a cancelled session: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestDeadLinkIsNoticed(t *testing.T) {
	f := newFixture(t, nil)
	o := f.options()
	o.KeepAlive = 250 * time.Millisecond
	c, err := ssh.Dial(t.Context(), f.host(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Start(t.Context(), remote.Cmd{Argv: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	// An idle link that is alive stays up.
	time.Sleep(1200 * time.Millisecond)
	if _, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"true"}}); err != nil {
		t.Fatalf("an idle connection ended: %v", err)
	}
	f.server.Freeze()
	took := within(t, 5*time.Second, func() {
		_, err := s.Read(make([]byte, 1))
		var lost *ssh.LostError
		if !errors.As(err, &lost) {
			t.Errorf("read ended with %v; want a LostError", err)
		}
		_, err = c.Run(t.Context(), remote.Cmd{Argv: []string{"true"}})
		if !errors.As(err, &lost) {
			t.Errorf("run on a dead link: %v", err)
		}
	})
	if took > 2*time.Second {
		t.Errorf("noticed after %s, with a keepalive of %s", took, o.KeepAlive)
	}
}

func TestDroppedLinkIsNoCleanEnd(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial(t)
	s, err := c.Start(t.Context(), remote.Cmd{Argv: []string{"sh", "-c", "echo one; sleep 60"}})
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(s)
	if !in.Scan() {
		t.Fatal(in.Err())
	}
	f.server.Cut()
	var lost *ssh.LostError
	within(t, 3*time.Second, func() {
		if in.Scan() || !errors.As(in.Err(), &lost) {
			t.Errorf("read ended with %v; want a LostError", in.Err())
		}
		if err := s.Wait(); !errors.As(err, &lost) {
			t.Errorf("the session ended with %v; want a LostError", err)
		}
	})
}

func TestCloseEndsSessions(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	s, err := c.Start(t.Context(), remote.Cmd{Argv: []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { c.Close() })
	within(t, 3*time.Second, func() {
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ssh.ErrClosed) {
			t.Errorf("read ended with %v; want ErrClosed", err)
		}
		if err := s.Wait(); !errors.Is(err, ssh.ErrClosed) {
			t.Errorf("wait ended with %v; want ErrClosed", err)
		}
	})
	if _, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"true"}}); !errors.Is(err, ssh.ErrClosed) {
		t.Errorf("run on a closed connection: %v", err)
	}
}

func TestDialContextThroughTheHost(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial(t)
	n, err := c.DialContext(t.Context(), "tcp", f.server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(n, greeting); err != nil || string(greeting) != "SSH-" {
		t.Errorf("read %q, %v", greeting, err)
	}
	if _, err := c.DialContext(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("opened a stream to a closed port")
	}
}

// fakeSudo gives a directory with a sudo that behaves as told.
func fakeSudo(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH")
}

func TestSudo(t *testing.T) {
	path := fakeSudo(t, `[ "$1 $2" = "-n --" ] || exit 9; shift 2; exec "$@"`)
	f := newFixture(t, func(c *sshtest.Config) { c.Exec = sshtest.Shell(path) })
	h := f.host()
	h.SSH.User = "ops"
	c, err := ssh.Dial(t.Context(), h, f.options())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if _, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"echo", "a b"}}); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(f.server.Commands(), "\n")
	if want := "sudo -n -- true\nsudo -n -- echo 'a b'\nsudo -n -- echo 'a b'"; got != want {
		t.Errorf("ran\n%s\nwant\n%s", got, want)
	}
	dest := filepath.Join(t.TempDir(), "sub", "file")
	data := []byte("content")
	if err := c.Upload(t.Context(), dest, 0o640, bytes.NewReader(data), int64(len(data)), sum(data)); err != nil {
		t.Fatal(err)
	}
	checkFile(t, dest, data, 0o640)
}

func TestSudoThatWantsAPassword(t *testing.T) {
	path := fakeSudo(t, `echo "sudo: a password is required" >&2; exit 1`)
	f := newFixture(t, func(c *sshtest.Config) { c.Exec = sshtest.Shell(path) })
	h := f.host()
	h.SSH.User = "ops"
	c, err := ssh.Dial(t.Context(), h, f.options())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Run(t.Context(), remote.Cmd{Argv: []string{"id"}})
	var sudo *ssh.SudoError
	if !errors.As(err, &sudo) || sudo.User != "ops" {
		t.Fatalf("got %v; want a SudoError", err)
	}
	mustContain(t, err.Error(), "a password is required", "NOPASSWD", "/etc/sudoers.d/muster")
}
