// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-project/muster/remote/sshtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestScripts runs testdata/script/*.txtar: what a person types, what muster
// answers, and with which exit code.
func TestScripts(t *testing.T) {
	w := world{t}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("CLOSED_PORT", closedPort(t))
			e.Values[machine{}] = new(*sshtest.Server)
			e.Values[fleetKey{}] = map[string]*fakeNode{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"bundle":   w.bundle,
			"sshd":     w.sshd,
			"notasked": notAsked,
			"looked":   looked,
			"envsubst": envsubst,
			"fleet":    w.fleet,
			"node":     fakeNodeCmd,
			"ctrl-c":   ctrlC,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// machine is the key of a script's SSH server among its values.
type machine struct{}

// world makes what scripts meet; it ends with the test.
type world struct{ t *testing.T }

// exits CODE PROGRAM ARGS... runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// closedPort is a port of 127.0.0.1 where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// bundle DIR makes a small bundle there.
func (w world) bundle(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: bundle DIR")
	}
	ts.Check(os.Rename(testBundle(w.t), ts.MkAbs(args[0])))
}

// sshd starts a machine that lets the key file id in, knows no command and has
// no files. It sets SSHD_PORT and writes the files id, stranger (a key that is
// not let in), known (its line for known_hosts) and known-other (a line with
// another machine's key for its address).
func (w world) sshd(ts *testscript.TestScript, _ bool, _ []string) {
	key := sshtest.NewKey(w.t, ts.MkAbs("id"), "")
	sshtest.NewKey(w.t, ts.MkAbs("stranger"), "")
	config := sshtest.Config{Exec: sshtest.Table(nil)}
	config.Authorized = append(config.Authorized, key.Public)
	server := sshtest.Start(w.t, config)
	other := sshtest.Start(w.t, sshtest.Config{})
	port, otherPort := strconv.Itoa(server.Port()), strconv.Itoa(other.Port())
	lines := map[string]string{
		"known": sshtest.KnownHosts(server), "known-other": strings.ReplaceAll(sshtest.KnownHosts(other), otherPort, port), "empty": "",
	}
	for name, line := range lines {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(line), 0o600))
	}
	ts.Setenv("SSHD_PORT", port)
	*ts.Value(machine{}).(**sshtest.Server) = server
}

// notasked checks that the machine of sshd was asked to do nothing.
func notAsked(ts *testscript.TestScript, _ bool, _ []string) {
	if asked := (*ts.Value(machine{}).(**sshtest.Server)).Commands(); len(asked) > 0 {
		ts.Fatalf("the machine was asked for %q", asked)
	}
}

// envsubst FILE puts the script's variables into a file.
func envsubst(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// looked checks that the machine of sshd was asked for nothing but what
// muster-node it has.
func looked(ts *testscript.TestScript, _ bool, _ []string) {
	for _, line := range (*ts.Value(machine{}).(**sshtest.Server)).Commands() {
		if line != "sha256sum /opt/muster/bin/muster-node" {
			ts.Fatalf("the machine was asked for %q", line)
		}
	}
}
