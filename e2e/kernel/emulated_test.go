// SPDX-License-Identifier: Apache-2.0

//go:build vm && emulated

package kernel

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/lab"
)

// TestProxierOnDebiansKernel runs the same tests on the kernel of Debian's
// release, which for Debian 12 is Linux 6.1. Every instruction is emulated, so
// what takes many rounds takes few here, and even so it is minutes: it is not
// among the tests with the tag vm alone.
func TestProxierOnDebiansKernel(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CGO_ENABLED", "0")
	guest, tests := filepath.Join(dir, "guest"), filepath.Join(dir, "proxier.test")
	build(t, "build", "-o", guest, "./guest")
	build(t, "test", "-c", "-tags", "kernel", "-o", tests, source)
	var out strings.Builder
	begin := time.Now()
	err := lab.Emulate(t.Context(), lab.Emulation{
		Init:      guest,
		Files:     map[string]string{"proxier.test": tests, "testdata": filepath.Join(source, "testdata")},
		Argv:      []string{"./proxier.test", "-test.v", "-test.timeout", "0"},
		Env:       append([]string{"MUSTER_TEST_SERVICES=20", "MUSTER_TEST_POSITIONS=5"}, sizes()...),
		MemoryMiB: 1024,
	}, &out, func(e lab.Event) { t.Log(e) })
	judge(t, out.String(), err)
	t.Logf("took %s", time.Since(begin).Round(time.Second))
}
