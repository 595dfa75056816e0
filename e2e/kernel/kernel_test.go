// SPDX-License-Identifier: Apache-2.0

//go:build vm

package kernel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

const (
	labName = "kernel"
	source  = "../../proxier/kernel"
)

// TestProxierOnRealKernel builds the proxier's kernel tests here and runs them
// there, each in namespaces that it makes itself.
func TestProxierOnRealKernel(t *testing.T) {
	dir := t.TempDir()
	muster, tests := filepath.Join(dir, "muster"), filepath.Join(dir, "proxier.test")
	build(t, "build", "-o", muster, "../../cmd/muster")
	build(t, "test", "-c", "-tags", "kernel", "-o", tests, source)
	if err := lab.Down(t.Context(), labName); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(t.Context(), lab.Spec{
		Name: labName, Machines: lab.Standard(1, 0, 0, 1024), Bare: true, Forwarder: []string{muster, "lab", "forward"},
	}, func(e lab.Event) { t.Log(e) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ssh, err := l.SSH("cp-1")
	if err != nil {
		t.Fatal(err)
	}
	// The tests read their testdata beside themselves. tar counts a second -C
	// from the first.
	testdata, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	pack := exec.CommandContext(t.Context(), "tar", "-c", "-C", dir, "proxier.test", "-C", testdata, "testdata")
	unpack := exec.CommandContext(t.Context(), ssh[0], append(ssh[1:], "tar -x -C /root")...)
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
	out, err := l.Run(t.Context(), "cp-1", "cd /root && "+strings.Join(sizes(), " ")+" ./proxier.test -test.v -test.timeout 0 2>&1")
	judge(t, out, err)
}

// sizes are the settings of the tests' sizes, from whoever runs this.
func sizes() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return !strings.HasPrefix(s, "MUSTER_TEST_") })
}

// judge reads what the tests printed.
func judge(t *testing.T, out string, err error) {
	t.Helper()
	if err != nil || !strings.Contains(out, "\nPASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		// Results, and what they measured.
		if strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "    fault_") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if strings.Contains(out, "--- SKIP") {
		t.Error("tests were skipped on a kernel that has everything")
	}
}

func build(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
