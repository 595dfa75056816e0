// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/bundle"
)

// put stores content in dir as a blob.
func put(t *testing.T, dir, name, content string, mode fs.FileMode) bundle.File {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	blob := enc.EncodeAll([]byte(content), nil)
	hex := fmt.Sprintf("%x", sha256.Sum256(blob))
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := errors.Join(os.MkdirAll(blobs, 0o755), os.WriteFile(filepath.Join(blobs, hex), blob, 0o644)); err != nil {
		t.Fatal(err)
	}
	return bundle.File{
		Name: name, Mode: mode, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Size: int64(len(content)),
		Blob: hex, BlobSize: int64(len(blob)),
	}
}

// artifacts stores the files of a small bundle in dir.
func artifacts(t *testing.T, dir string) []bundle.Artifact {
	t.Helper()
	return []bundle.Artifact{
		{
			Name: "kubernetes", Version: "1.36.3", Kind: bundle.Binary, Group: bundle.Core, License: "Apache-2.0",
			Module: "k8s.io/kubernetes@v1.36.3", Toolchain: "go1.26.8",
			Files: []bundle.File{put(t, dir, "kubernetes", strings.Repeat("five programs ", 50), 0o755)},
		},
		{
			Name: "coredns", Version: "1.15.0", Kind: bundle.Image, Group: bundle.Core, License: "Apache-2.0",
			Module: "github.com/coredns/coredns@v1.15.0", Ref: "muster.local/coredns:1.15.0",
			Files: []bundle.File{put(t, dir, "coredns.tar", "layers", 0o644)},
		},
		{
			Name: "cni-plugins", Version: "1.9.1", Kind: bundle.Binary, Group: bundle.Test, License: "MIT",
			Files: []bundle.File{put(t, dir, "bridge", "bridge", 0o755), put(t, dir, "host-local", "host-local", 0o700)},
		},
	}
}

func small(t *testing.T) (dir string, b *bundle.Bundle) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "bundle")
	if err := bundle.Write(dir, artifacts(t, dir)); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, b
}

func TestOpen(t *testing.T) {
	dir, b := small(t)
	want := artifacts(t, dir)
	slices.SortFunc(want, func(x, y bundle.Artifact) int { return strings.Compare(x.Name, y.Name) })
	if got := b.Artifacts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if b.Kubernetes() != "1.36.3" || !strings.HasPrefix(b.Version(), "1.36.3+") || len(b.Version()) != len("1.36.3+0123456789ab") {
		t.Errorf("versions %q and %q", b.Kubernetes(), b.Version())
	}
	if faults := b.Verify(t.Context()); len(faults) > 0 {
		t.Errorf("a new bundle has faults: %v", faults)
	}
}

func TestOpenNothing(t *testing.T) {
	_, err := bundle.Open(t.TempDir())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "muster bundle build") {
		t.Errorf("got %v, want not-exist with what to do", err)
	}
}

func TestLookup(t *testing.T) {
	_, b := small(t)
	for name, want := range map[string]string{
		"coredn":     "nearest: coredns, ",
		"kubernets":  "nearest: kubernetes, ",
		"plugins":    "nearest: cni-plugins, ",
		"":           "`muster bundle build --only ",
		"kubernetes": "",
	} {
		a, err := b.Lookup(name)
		if want == "" {
			if err != nil || a.Name != name {
				t.Errorf("%q: %v, %v", name, a, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not say %q", name, err, want)
		}
	}
}

func TestOpenFile(t *testing.T) {
	_, b := small(t)
	a, err := b.Lookup("cni-plugins")
	if err != nil {
		t.Fatal(err)
	}
	f, ok := a.File("host-local")
	if !ok {
		t.Fatalf("no host-local in %v", a)
	}
	if got, err := readFile(b, f); err != nil || got != "host-local" {
		t.Errorf("read %q, %v", got, err)
	}
	raw, err := b.OpenBlob(f.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if blob, err := io.ReadAll(raw); err != nil || int64(len(blob)) != f.BlobSize {
		t.Errorf("blob of %d bytes, %v; want %d", len(blob), err, f.BlobSize)
	}
	if _, err := b.OpenBlob("../../index.json"); err == nil {
		t.Error("a path was taken for a digest")
	}
}

func readFile(b *bundle.Bundle, f bundle.File) (string, error) {
	r, err := b.OpenFile(f)
	if err != nil {
		return "", err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	return string(raw), err
}

// A file that is not what it promises never reads to its end without an error.
func TestOpenFileKeepsPromises(t *testing.T) {
	dir, b := small(t)
	a, err := b.Lookup("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	whole := a.Files[0]
	for name, change := range map[string]func(*bundle.File){
		"shorter":       func(f *bundle.File) { f.Size-- },
		"longer":        func(f *bundle.File) { f.Size++ },
		"other content": func(f *bundle.File) { f.SHA256 = strings.Repeat("0", 64) },
	} {
		f := whole
		change(&f)
		if _, err := readFile(b, f); err == nil || !strings.Contains(err.Error(), "build the bundle again") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	path := filepath.Join(dir, "blobs", "sha256", whole.Blob)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(raw) {
		if err := os.WriteFile(path, raw[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(b, whole); err == nil {
			t.Errorf("cut after %d of %d bytes: no error", cut, len(raw))
		}
	}
}

// everyFile returns the files of a bundle, relative to dir.
func everyFile(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// found reports whether a new look at dir, or a second one by a reader that has
// it open, finds something wrong with path.
func found(t *testing.T, dir, path string, before *bundle.Bundle) (byOpen, byVerify bool) {
	t.Helper()
	for _, f := range before.Verify(t.Context()) {
		byVerify = byVerify || f.Path == path
	}
	b, err := bundle.Open(dir)
	if err != nil {
		return true, byVerify
	}
	return len(b.Verify(t.Context())) > 0, byVerify
}

func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	dir, b := small(t)
	for _, file := range everyFile(t, dir) {
		path := filepath.Join(dir, file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if byOpen, byVerify := found(t, dir, file, b); !byOpen || !byVerify {
				t.Errorf("%s: flipped bit %d of byte %d: found by a new reader: %v, by an old one: %v", file, i%8, i, byOpen, byVerify)
			}
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if faults := b.Verify(t.Context()); len(faults) > 0 {
		t.Errorf("restored, and still: %v", faults)
	}
}

func TestVerifyFindsWhatIsMissingCutOrTooMuch(t *testing.T) {
	dir, _ := small(t)
	for _, file := range everyFile(t, dir) {
		for name, damage := range map[string]func(string) error{
			"removed":  os.Remove,
			"emptied":  func(p string) error { return os.Truncate(p, 0) },
			"cut":      func(p string) error { return os.Truncate(p, 1) },
			"extended": func(p string) error { return appendTo(p, "\n") },
			"linked": func(p string) error {
				return errors.Join(os.Rename(p, p+".moved"), os.Symlink(filepath.Base(p)+".moved", p))
			},
		} {
			dir, b := small(t)
			if err := damage(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			if byOpen, byVerify := found(t, dir, file, b); !byOpen || !byVerify {
				t.Errorf("%s %s: found by a new reader: %v, by an old one: %v", file, name, byOpen, byVerify)
			}
		}
	}
	for _, extra := range []string{"note.txt", "blobs/sha512", "blobs/sha256/.part-1", "blobs/sha256/" + strings.Repeat("a", 64), "blobs/sha256/dir/file"} {
		dir, b := small(t)
		path := filepath.Join(dir, extra)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if faults := b.Verify(t.Context()); len(faults) != 1 || !strings.HasPrefix(extra, faults[0].Path) {
			t.Errorf("%s is too much: faults %v", extra, faults)
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	_, b := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	faults := b.Verify(ctx)
	if len(faults) != 4 || !strings.Contains(faults[0].Reason, "not verified") {
		t.Errorf("got %v, want one fault for each file that was not read", faults)
	}
}

// Every change of the index that leaves it valid JSON is refused.
func TestOpenRefusesATamperedIndex(t *testing.T) {
	for name, change := range map[string][2]string{
		"other name":        {`"org.opencontainers.image.title": "coredns"`, `"org.opencontainers.image.title": "corednz"`},
		"white space":       {`"manifests": [`, `"manifests":  [`},
		"unknown field":     {`"schemaVersion": 2,`, `"schemaVersion": 2, "extra": true,`},
		"unknown schema":    {`"schemaVersion": 2`, `"schemaVersion": 3`},
		"other hash":        {`sha256:`, `sha512:`},
		"short digest":      {`"digest": "sha256:`, `"digest": "sha256:0`},
		"outside directory": {`"digest": "sha256:`, `"digest": "sha256:../../`},
		"not a number":      {`"size": `, `"size": -`},
	} {
		dir, _ := small(t)
		path := filepath.Join(dir, "index.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(raw), change[0], change[1], 1)
		if changed == string(raw) {
			t.Fatalf("%s: the index has no %s", name, change[0])
		}
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Open(dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	all := artifacts(t, dir)
	if err := bundle.Write(dir, append(all, all[0])); err == nil {
		t.Error("the same artifact twice: no error")
	}
	if err := bundle.Write(dir, all); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(filepath.Join(dir, "blobs", "sha256", all[2].Files[0].Blob), ""); err != nil {
		t.Fatal(err)
	}
	if err := bundle.Write(dir, all[:2]); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if faults := b.Verify(t.Context()); len(faults) > 0 || len(b.Artifacts()) != 2 {
		t.Errorf("after one artifact was left out: %v, %v", b.Artifacts(), faults)
	}
	if err := bundle.Write(dir, all); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("artifact without its blobs: %v", err)
	}
	if b, err = bundle.Open(dir); err != nil || len(b.Artifacts()) != 2 {
		t.Errorf("a failed write changed the bundle: %v", err)
	}
}
