// SPDX-License-Identifier: Apache-2.0

//go:build vm

package kernel

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

// machine boots a bare lab machine, cp-1, for as long as the test takes.
func machine(t *testing.T, name string) *lab.Lab {
	t.Helper()
	muster := filepath.Join(t.TempDir(), "muster")
	build(t, "build", "-o", muster, "../../cmd/muster")
	if err := lab.Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(t.Context(), lab.Spec{
		Name: name, Machines: lab.Standard(1, 0, 0, 1024), Bare: true, Forwarder: []string{muster, "lab", "forward"},
	}, func(e lab.Event) { t.Log(e) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// send copies files to the home of root. They are named as for tar, so that
// what follows `-C DIR` lies in DIR.
func send(t *testing.T, l *lab.Lab, files ...string) {
	t.Helper()
	ssh, err := l.SSH("cp-1")
	if err != nil {
		t.Fatal(err)
	}
	pack := exec.CommandContext(t.Context(), "tar", append([]string{"-c"}, files...)...)
	unpack := exec.CommandContext(t.Context(), ssh[0], append(ssh[1:], "tar -x --no-same-owner -C /root")...)
	if unpack.Stdin, err = pack.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := pack.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("send the tests: %v\n%s", err, out)
	}
	if err := pack.Wait(); err != nil {
		t.Fatalf("pack the tests: %v", err)
	}
}

func build(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
