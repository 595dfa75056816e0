// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/bundle/build"
	"github.com/muster-project/muster/internal/golden"
)

// runBundle runs the program.
func runBundle(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"bundle"}, args...), streams{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

// testBundle writes a bundle of two artifacts.
func testBundle(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	err := bundle.Write(dir, []bundle.Artifact{
		{
			Name: "kubernetes", Version: "1.36.3", Kind: bundle.Binary, Group: bundle.Core, License: "Apache-2.0",
			Module: "k8s.io/kubernetes@v1.36.3", Toolchain: "go1.26.8",
			Files: []bundle.File{testBlob(t, dir, "kubernetes", strings.Repeat("k", 1_234_567))},
		},
		{
			Name: "pause", Version: "3.10", Kind: bundle.Image, Group: bundle.Core, License: "Apache-2.0",
			Module: "example.org/pause", Ref: "muster.local/pause:3.10", Files: []bundle.File{testBlob(t, dir, "pause.tar", "p")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func testBlob(t *testing.T, dir, name, content string) bundle.File {
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
		Name: name, Mode: 0o755, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Size: int64(len(content)),
		Blob: hex, BlobSize: int64(len(blob)),
	}
}

func TestBundleList(t *testing.T) {
	dir := testBundle(t)
	for name, args := range map[string][]string{
		"bundle-list":      {"list", "--bundle", dir},
		"bundle-list.json": {"list", "--bundle", dir, "-o", "json"},
	} {
		code, out, errOut := runBundle(t, args...)
		if code != exitOK || errOut != "" {
			t.Errorf("%v: code %d, %s", args, code, errOut)
		}
		got := strings.ReplaceAll(out, dir, "DIR")
		golden.Equal(t, name+".golden", []byte(got))
	}
}

func TestBundleListInTheDefaultPlace(t *testing.T) {
	t.Setenv("MUSTER_BUNDLE", testBundle(t))
	if code, out, errOut := runBundle(t, "list"); code != exitOK || !strings.Contains(out, "kubernetes") {
		t.Errorf("code %d, %s%s", code, out, errOut)
	}
	t.Setenv("MUSTER_BUNDLE", filepath.Join(t.TempDir(), "none"))
	if code, _, errOut := runBundle(t, "list"); code != exitError || !strings.Contains(errOut, "muster bundle build") {
		t.Errorf("no bundle: code %d, %s", code, errOut)
	}
	if code, _, errOut := runBundle(t, "list", "-o", "yaml"); code != exitError || errOut == "" {
		t.Errorf("unknown output: code %d, %s", code, errOut)
	}
}

func TestBundleVerify(t *testing.T) {
	dir := testBundle(t)
	code, out, _ := runBundle(t, "verify", "--bundle", dir)
	if code != exitOK || !strings.Contains(out, "2 artifacts are whole") {
		t.Errorf("whole bundle: code %d, %s", code, out)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	pause, err := b.Lookup("pause")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", "sha256", pause.Files[0].Blob)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 4
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := runBundle(t, "verify", "--bundle", dir)
	if code != exitError || !strings.Contains(out, pause.Files[0].Blob+" (pause): ") || !strings.Contains(errOut, "muster bundle build --out "+dir) {
		t.Errorf("flipped bit: code %d\n%s%s", code, out, errOut)
	}
}

func TestBundleBuildRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		`muster knows none of that name`: {"build", "--only", "docker", "--out", t.TempDir(), "--cache", t.TempDir()},
		`group "all"`:                    {"build", "--group", "all", "--out", t.TempDir()},
		`no such file`:                   {"build", "--from", "/nowhere/at/all", "--out", t.TempDir(), "--cache", t.TempDir()},
		`unknown command "thing"`:        {"build", "thing"},
	} {
		if code, _, errOut := runBundle(t, args...); code != exitError || !strings.Contains(errOut, want) {
			t.Errorf("%v: code %d, %q does not say %q", args, code, errOut, want)
		}
	}
}

func TestEventLine(t *testing.T) {
	e := build.Event{Artifact: "runc", Version: "1.5.2", Elapsed: 1500 * time.Millisecond, Size: 9_300_000, BlobSize: 832}
	for stage, want := range map[build.Stage]string{
		build.Making:   "runc 1.5.2: building (1.5s)",
		build.Made:     "runc 1.5.2: built in 1.5s, 832 B stored, 9.3 MB unpacked",
		build.Cached:   "runc 1.5.2: from the cache, 832 B stored, 9.3 MB unpacked",
		build.Waiting:  "runc 1.5.2: waiting, another process builds it",
		build.Repaired: "runc 1.5.2: repaired, because",
	} {
		e.Stage, e.Reason = stage, ""
		if stage == build.Repaired {
			e.Reason = "because"
		}
		if got := eventLine(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := eventLine(build.Event{Stage: build.Waiting, Reason: "another process"}); got != "bundle: waiting, another process" {
		t.Errorf("got %q", got)
	}
}
