// SPDX-License-Identifier: Apache-2.0

package kubeconfig_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/kubeconfig"
)

func entry(name string) kubeconfig.Entry {
	return kubeconfig.Entry{Name: name, Server: "https://192.0.2.1:6443", CA: []byte("CA"), Cert: []byte("new cert"), Key: []byte("new key")}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// usable loads a file as kubectl does and checks that the entry is whole.
func usable(t *testing.T, path string, e kubeconfig.Entry, current string) {
	t.Helper()
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatalf("kubectl would say: %v", err)
	}
	cluster, user, context := c.Clusters[e.Name], c.AuthInfos[e.Name], c.Contexts[e.Name]
	if cluster == nil || user == nil || context == nil {
		t.Fatalf("no entry %s in %s", e.Name, read(t, path))
	}
	if cluster.Server != e.Server || string(cluster.CertificateAuthorityData) != string(e.CA) {
		t.Errorf("cluster %+v", cluster)
	}
	if string(user.ClientCertificateData) != string(e.Cert) || string(user.ClientKeyData) != string(e.Key) {
		t.Errorf("user %+v", user)
	}
	if context.Cluster != e.Name || context.AuthInfo != e.Name {
		t.Errorf("context %+v", context)
	}
	if c.CurrentContext != current {
		t.Errorf("current context %q, want %q", c.CurrentContext, current)
	}
}

func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		name, current string
		use           bool
	}{
		{name: "others", current: "old"},
		{name: "others", current: "demo", use: true},
		{name: "nulls", current: "demo"},
		{name: "renewal", current: "demo"},
		{name: "half", current: "demo"},
		{name: "json", current: "demo"},
	} {
		path := write(t, read(t, filepath.Join("testdata", tt.name+".yaml")))
		if changed, err := kubeconfig.Merge(path, entry("demo"), tt.use); !changed || err != nil {
			t.Fatalf("%s: changed %t, %v", tt.name, changed, err)
		}
		goldenName := tt.name + ".golden"
		if tt.use {
			goldenName = tt.name + "-use.golden"
		}
		golden.Equal(t, goldenName, []byte(read(t, path)))
		usable(t, path, entry("demo"), tt.current)
		before := read(t, path)
		if changed, err := kubeconfig.Merge(path, entry("demo"), tt.use); changed || err != nil || read(t, path) != before {
			t.Errorf("%s: merging again: changed %t, %v", tt.name, changed, err)
		}
	}
}

func TestMergeMakesTheFile(t *testing.T) {
	for what, path := range map[string]string{
		"missing, its folder too": filepath.Join(t.TempDir(), "new", "config"),
		"empty":                   write(t, ""),
		"blank":                   write(t, "\n\n"),
	} {
		if _, err := kubeconfig.Merge(path, entry("demo"), false); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		golden.Equal(t, "new.golden", []byte(read(t, path)))
		usable(t, path, entry("demo"), "demo")
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v; a private key is in it", what, info.Mode(), err)
		}
		if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
			t.Errorf("%s: left behind: %v, %v", what, files, err)
		}
	}
	alone, err := kubeconfig.Render(entry("demo"))
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "new.golden", alone)
}

// A name that YAML reads as something else than text stays text.
func TestMergeNames(t *testing.T) {
	for _, name := range []string{"123", "1e3", "true", "null", "0x1f", "no"} {
		path := filepath.Join(t.TempDir(), "config")
		if _, err := kubeconfig.Merge(path, entry(name), false); err != nil {
			t.Fatal(err)
		}
		usable(t, path, entry(name), name)
		if changed, err := kubeconfig.Merge(path, entry(name), false); changed || err != nil {
			t.Errorf("%s again: changed %t, %v", name, changed, err)
		}
	}
}

// An entry that says the same in another style is left in it.
func TestMergeKeepsTheStyle(t *testing.T) {
	text := `{"apiVersion":"v1","kind":"Config","current-context":"demo",
"clusters":[{"name":"demo","cluster":{"server":"https://192.0.2.1:6443","certificate-authority-data":"Q0E="}}],
"users":[{"name":"demo","user":{"client-certificate-data":"bmV3IGNlcnQ=","client-key-data":"bmV3IGtleQ=="}}],
"contexts":[{"name":"demo","context":{"cluster":"demo","user":"demo"}}]}`
	path := write(t, text)
	if changed, err := kubeconfig.Merge(path, entry("demo"), true); changed || err != nil {
		t.Errorf("changed %t, %v", changed, err)
	}
	untouched(t, "the same entry", path, text)
}

func TestMergeNeverTakesAName(t *testing.T) {
	for name, tt := range map[string]struct{ file, kind, server string }{
		"cluster with another CA": {"clusters:\n- name: demo\n  cluster: {server: https://x.example, certificate-authority-data: T1RIRVI=}\n", "cluster", "https://x.example"},
		"cluster with a CA file":  {"clusters:\n- name: demo\n  cluster: {server: https://x.example, certificate-authority: /ca.crt}\n", "cluster", "https://x.example"},
		"cluster without a CA":    {"clusters:\n- name: demo\n  cluster: {server: http://x.example}\n", "cluster", "http://x.example"},
		"user of something else":  {"users:\n- name: demo\n  user: {token: secret}\n", "user", ""},
		"context of another cluster": {
			"clusters:\n- name: other\n  cluster: {server: https://x.example}\ncontexts:\n- name: demo\n  context: {cluster: other, user: me}\n", "context", "https://x.example",
		},
	} {
		path := write(t, tt.file)
		_, err := kubeconfig.Merge(path, entry("demo"), true)
		var taken *kubeconfig.TakenError
		if !errors.As(err, &taken) || taken.Kind != tt.kind || taken.Server != tt.server || taken.Path != path {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := kubeconfig.Existing(path, "demo", entry("demo").CA); !errors.As(err, &taken) {
			t.Errorf("%s: Existing says %v", name, err)
		}
		untouched(t, name, path, tt.file)
	}
}

// untouched checks that nothing of the file changed, its mode included.
func untouched(t *testing.T, what, path, content string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 || read(t, path) != content {
		t.Errorf("%s: the file was touched: %v, %v, %q", what, info.Mode(), err, read(t, path))
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("%s: left behind: %v, %v", what, files, err)
	}
}

func TestMergeRefusesWhatItWouldSpoil(t *testing.T) {
	for file, want := range map[string]string{
		"a: [":                                  "not YAML",
		"- a list":                              "not a kubeconfig file",
		"just text":                             "not a kubeconfig file",
		"# nothing yet\n":                       "only comments",
		"kind: Config\n---\nkind: Config":       "more than one YAML document",
		"clusters: {a: b}":                      "clusters: line 1: not a list",
		"users: [me]":                           "users: line 1: not a user with its name",
		"contexts:\n- name: a\n  context: text": "contexts: line 2: not a context with its name",
		"a: &x {b: c}\nd: *x":                   "anchors",
		"{0}":                                   "would not survive",
		"kind: Config\nkind: Config":            "already defined",
	} {
		path := write(t, file)
		_, err := kubeconfig.Merge(path, entry("demo"), false)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v; want %q", file, err, want)
		}
		untouched(t, file, path, file)
	}
}

func TestMergeFollowsLinks(t *testing.T) {
	target := write(t, "")
	link := filepath.Join(t.TempDir(), "config")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := kubeconfig.Merge(link, entry("demo"), false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	usable(t, target, entry("demo"), "demo")
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if _, err := kubeconfig.Merge(link, entry("demo"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that leads nowhere: %v", err)
	}
}

func TestMergeWaitsForNobody(t *testing.T) {
	path := write(t, "kind: Config\n")
	if err := os.WriteFile(path+".lock", nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := kubeconfig.Merge(path, entry("demo"), false); err == nil || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("locked by kubectl: %v", err)
	}
	if got := read(t, path); got != "kind: Config\n" {
		t.Errorf("written nevertheless: %q", got)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Errorf("kubectl's lock was taken away: %v", err)
	}
}

func TestExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if cert, key, err := kubeconfig.Existing(path, "demo", []byte("CA")); cert != nil || key != nil || err != nil {
		t.Errorf("no file: %q, %q, %v", cert, key, err)
	}
	if _, err := kubeconfig.Merge(path, entry("demo"), false); err != nil {
		t.Fatal(err)
	}
	cert, key, err := kubeconfig.Existing(path, "demo", []byte("CA"))
	if string(cert) != "new cert" || string(key) != "new key" || err != nil {
		t.Errorf("%q, %q, %v", cert, key, err)
	}
}

func TestPath(t *testing.T) {
	for env, want := range map[string]string{
		"": "/home/o/.kube/config", "/a": "/a", "/a:/b": "/a", "::/b": "/b", ":": "/home/o/.kube/config",
	} {
		if got := kubeconfig.Path(env, "/home/o"); got != want {
			t.Errorf("KUBECONFIG=%q: %s, want %s", env, got, want)
		}
	}
}
