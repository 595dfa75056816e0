// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/internal/golden"
)

func TestEncode(t *testing.T) {
	all := artifacts(t, t.TempDir())
	for _, a := range all {
		raw, err := bundle.EncodeManifest(a)
		if err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, "manifest-"+a.Name+".golden", raw)
		back, err := bundle.DecodeManifest(raw)
		if err != nil || fmt.Sprint(back) != fmt.Sprint(a) {
			t.Errorf("read back %v, %v; want %v", back, err, a)
		}
	}
	index, err := bundle.EncodeIndex(all)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "index.golden", index)
}

func TestEncodeRefuses(t *testing.T) {
	sha := strings.Repeat("a", 64)
	good := func() bundle.Artifact {
		return bundle.Artifact{
			Name: "runc", Version: "1", Kind: bundle.Binary, Group: bundle.Core,
			Files: []bundle.File{{Name: "runc", Mode: 0o755, SHA256: sha, Blob: sha, Size: 1, BlobSize: 1}},
		}
	}
	if _, err := bundle.EncodeManifest(good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*bundle.Artifact){
		`artifact "../runc": name`: func(a *bundle.Artifact) { a.Name = "../runc" },
		`artifact "": name`:        func(a *bundle.Artifact) { a.Name = "" },
		`version: missing`:         func(a *bundle.Artifact) { a.Version = "" },
		`kind: "folder"`:           func(a *bundle.Artifact) { a.Kind = "folder" },
		`group: "other"`:           func(a *bundle.Artifact) { a.Group = "other" },
		`image reference: "x/y:1"`: func(a *bundle.Artifact) { a.Ref = "x/y:1" },
		`image reference: ""`:      func(a *bundle.Artifact) { a.Kind = bundle.Image },
		`0 files`:                  func(a *bundle.Artifact) { a.Files = nil },
		`2 files`: func(a *bundle.Artifact) {
			a.Kind, a.Ref, a.Files = bundle.Image, "x/y:1", append(a.Files, bundle.File{})
		},
		`file "runc": twice`:              func(a *bundle.Artifact) { a.Files = append(a.Files, a.Files[0]) },
		`file "bin/runc": name`:           func(a *bundle.Artifact) { a.Files[0].Name = "bin/runc" },
		`file "..": name`:                 func(a *bundle.Artifact) { a.Files[0].Name = ".." },
		"file \"a\\nb\": name":            func(a *bundle.Artifact) { a.Files[0].Name = "a\nb" },
		`only permission bits`:            func(a *bundle.Artifact) { a.Files[0].Mode |= fs.ModeSetuid },
		`sha256 of the content: "AAAA`:    func(a *bundle.Artifact) { a.Files[0].SHA256 = strings.ToUpper(sha) },
		`digest of the blob: "aa": want`:  func(a *bundle.Artifact) { a.Files[0].Blob = "aa" },
		`sizes -1 and 1: not those`:       func(a *bundle.Artifact) { a.Files[0].Size = -1 },
		`sizes 1 and 0: not those of a s`: func(a *bundle.Artifact) { a.Files[0].BlobSize = 0 },
	} {
		a := good()
		change(&a)
		if _, err := bundle.EncodeManifest(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}
