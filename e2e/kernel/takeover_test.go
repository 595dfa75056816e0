// SPDX-License-Identifier: Apache-2.0

//go:build vm && peers

package kernel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

// TestTakeoverFromKubeProxy builds kube-proxy, muster-proxier and the tests of
// taking over from the one to the other, and of living beside firewalls, and
// runs them on a lab machine. Each makes its own namespaces.
func TestTakeoverFromKubeProxy(t *testing.T) {
	const name = "takeover-kernel"
	t.Setenv("CGO_ENABLED", "0") // the machine's C library is not this computer's
	dir := t.TempDir()
	send := filepath.Join(dir, "send")
	muster := filepath.Join(dir, "muster")
	build(t, "build", "-o", muster, "../../cmd/muster")
	build(t, "build", "-o", filepath.Join(send, "muster-proxier"), "../../cmd/muster-proxier")
	build(t, "build", "-C", "../../bundle/modules/kubernetes-1.36", "-o", filepath.Join(send, "kube-proxy"), "./peer")
	for _, suite := range []string{"takeover", "neighbours"} {
		build(t, "test", "-c", "-tags", "kernel", "-o", filepath.Join(send, suite+".test"), "../../proxier/"+suite)
	}
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
	sendAll(t, l, send)
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

// sendAll copies what is in dir to the home of root.
func sendAll(t *testing.T, l *lab.Lab, dir string) {
	t.Helper()
	ssh, err := l.SSH("cp-1")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(t.TempDir(), "send.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	pack := exec.CommandContext(t.Context(), "tar", "-c", "-C", dir, ".")
	pack.Stdout = archive
	if err := pack.Run(); err != nil {
		t.Fatalf("pack the tests: %v", err)
	}
	if _, err := archive.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	unpack := exec.CommandContext(t.Context(), ssh[0], append(ssh[1:], "tar -x --no-same-owner -C /root")...)
	unpack.Stdin = archive
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("send the tests: %v\n%s", err, out)
	}
}
