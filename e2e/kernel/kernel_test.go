// SPDX-License-Identifier: Apache-2.0

//go:build vm

package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	labName = "kernel"
	source  = "../../proxier/kernel"
)

// TestProxierOnRealKernel builds the proxier's kernel tests here and runs them
// there, each in namespaces that it makes itself.
func TestProxierOnRealKernel(t *testing.T) {
	dir := t.TempDir()
	build(t, "test", "-c", "-tags", "kernel", "-o", filepath.Join(dir, "proxier.test"), source)
	l := machine(t, labName)
	// The tests read their testdata beside themselves. tar counts a second -C
	// from the first.
	beside, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	send(t, l, "-C", dir, "proxier.test", "-C", beside, "testdata")
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
