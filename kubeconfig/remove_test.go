// SPDX-License-Identifier: Apache-2.0

package kubeconfig_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/muster-project/muster/kubeconfig"
)

// What Merge adds Remove takes away, and nothing else.
func TestRemoveUndoesMerge(t *testing.T) {
	const others = `apiVersion: v1
kind: Config
clusters:
- name: other # mine
  cluster:
    server: https://other.example
    certificate-authority-data: b3RoZXI=
users:
- name: other
  user: {token: abc}
contexts:
- name: other
  context: {cluster: other, user: other}
current-context: other
`
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(others), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := []byte("a CA")
	for _, name := range []string{"demo", "demo-again"} {
		if _, err := kubeconfig.Merge(path, kubeconfig.Entry{Name: name, Server: "https://demo", CA: ca, Cert: []byte("c"), Key: []byte("k")}, name == "demo"); err != nil {
			t.Fatal(err)
		}
	}
	names, err := kubeconfig.Remove(path, ca)
	if err != nil || !slices.Equal(names, []string{"demo", "demo-again"}) {
		t.Fatalf("removed %v, %v", names, err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Replace([]byte(others), []byte("current-context: other"), []byte(`current-context: ""`), 1)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if names, err := kubeconfig.Remove(path, ca); err != nil || names != nil {
		t.Errorf("a second time: %v, %v", names, err)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(again, got) {
		t.Error("a second time wrote the file")
	}
}
