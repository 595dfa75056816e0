// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"
)

// FuzzMerge merges into any file at all: it is refused, or everything in it that
// is not of the new name is still there.
func FuzzMerge(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, s := range seeds {
		data, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	e := Entry{Name: "demo", Server: "https://192.0.2.1:6443", CA: []byte("CA"), Cert: []byte("cert"), Key: []byte("key")}
	f.Fuzz(func(t *testing.T, before []byte) {
		after := merged(t, before, e)
		if after == nil {
			return
		}
		if was, is := rest(t, before), rest(t, after); !reflect.DeepEqual(was, is) {
			t.Fatalf("lost or changed: %v\nis now %v\n\nfrom\n%s\nto\n%s", was, is, before, after)
		}
		if again := merged(t, after, e); again != nil {
			t.Fatalf("merging again changed\n%s\nto\n%s", after, again)
		}
	})
}

// merged is what a file becomes; nil if it stays as it is.
func merged(t *testing.T, data []byte, e Entry) []byte {
	t.Helper()
	f, err := parse(data)
	if err != nil {
		return nil
	}
	after, err := f.merge(e, false)
	if err != nil {
		return nil
	}
	return after
}

// rest is what a file says apart from the entry called demo.
func rest(t *testing.T, data []byte) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	for _, key := range []string{"clusters", "users", "contexts"} {
		list, _ := doc[key].([]any)
		var others []any
		for _, element := range list {
			if m, ok := element.(map[string]any); !ok || m["name"] != "demo" {
				others = append(others, element)
			}
		}
		delete(doc, key)
		if len(others) > 0 {
			doc[key] = others
		}
	}
	if doc["current-context"] == nil || doc["current-context"] == "" || doc["current-context"] == "demo" {
		delete(doc, "current-context")
	}
	return doc
}
