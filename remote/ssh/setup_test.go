// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

// fixture is an operator's home directory, a key in it, and a server that knows
// the key and is known.
type fixture struct {
	home, known string
	key         sshtest.Key
	server      *sshtest.Server
}

// newFixture starts a server; change may alter it first.
func newFixture(t testing.TB, change func(*sshtest.Config)) *fixture {
	t.Helper()
	checkLeaks(t)
	home := t.TempDir()
	f := &fixture{home: home, known: filepath.Join(home, ".ssh", "known_hosts")}
	f.key = sshtest.NewKey(t, filepath.Join(home, "key"), "")
	c := sshtest.Config{Authorized: []xssh.PublicKey{f.key.Public}, Exec: sshtest.Shell("PATH=" + os.Getenv("PATH")), Dir: t.TempDir()}
	if change != nil {
		change(&c)
	}
	f.server = sshtest.Start(t, c)
	f.knows(t, sshtest.KnownHosts(f.server))
	return f
}

func (f *fixture) knows(t testing.TB, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.known), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.known, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) host() inventory.Host {
	return inventory.Host{Name: "m1", SSH: f.server.SSH(f.key, f.known)}
}

func (f *fixture) options() ssh.Options {
	return ssh.Options{Home: f.home, Timeout: 10 * time.Second}
}

func (f *fixture) dial(t testing.TB) *ssh.Conn {
	t.Helper()
	c, err := ssh.Dial(t.Context(), f.host(), f.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// within fails the test when f takes longer: a blocked call was not released.
func within(t *testing.T, limit time.Duration, f func()) time.Duration {
	t.Helper()
	start := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return time.Since(start)
	case <-time.After(limit):
		buf := make([]byte, 1<<20)
		t.Fatalf("still blocked after %s\n%s", limit, buf[:runtime.Stack(buf, true)])
		return 0
	}
}

// checkLeaks waits at the test's end until the goroutines it started are gone.
func checkLeaks(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for runtime.NumGoroutine() > before {
			select {
			case <-ctx.Done():
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before the test\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q lacks %q", text, p)
		}
	}
}
