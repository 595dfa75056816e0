// SPDX-License-Identifier: Apache-2.0

//go:build vm && peers

package kernel

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTakeoverFromKubeProxy builds kube-proxy, muster-proxier and the tests of
// taking over from the one to the other, and of living beside firewalls, and
// runs them on a lab machine. Each makes its own namespaces.
func TestTakeoverFromKubeProxy(t *testing.T) {
	const name = "takeover-kernel"
	t.Setenv("CGO_ENABLED", "0") // the machine's C library is not this computer's
	dir := t.TempDir()
	build(t, "build", "-o", filepath.Join(dir, "muster-proxier"), "../../cmd/muster-proxier")
	build(t, "build", "-C", "../../bundle/modules/kubernetes-1.36", "-o", filepath.Join(dir, "kube-proxy"), "./peer")
	for _, suite := range []string{"takeover", "neighbours"} {
		build(t, "test", "-c", "-tags", "kernel", "-o", filepath.Join(dir, suite+".test"), "../../proxier/"+suite)
	}
	l := machine(t, name)
	send(t, l, "-C", dir, ".")
	for _, suite := range []string{"neighbours", "takeover"} {
		out, err := l.Run(t.Context(), "cp-1", "cd /root && ./"+suite+".test -test.v 2>&1")
		if err != nil || !strings.Contains(out, "\nPASS") || strings.Contains(out, "--- SKIP") {
			t.Errorf("%s: %v\n%s", suite, err, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "--- ") || strings.Contains(line, "new connections") {
				t.Log(strings.TrimRight(line, "\n"))
			}
		}
	}
}
