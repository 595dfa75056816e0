// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/muster-project/muster/internal/golden"
)

func testImage() image {
	return image{
		Ref: "muster.local/test:1.0",
		Layers: []layer{
			{{Path: "/", Tree: "tree"}, {Path: "/etc/passwd", Mode: 0o600, Text: "root\n"}, {Path: "/tmp", Mode: fs.ModeSticky | 0o777}},
			{{Path: "/usr/bin/program", File: "program"}, {Path: "/bin/sh", Link: "program"}},
		},
		Config: v1.Config{Entrypoint: []string{"/usr/bin/program"}, User: "65532:65532", Env: []string{imagePath}},
	}
}

// madeFiles writes what makers would have made. when is the age of the files.
func madeFiles(t *testing.T, when time.Time) string {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "program"), []byte("program"), 0o700),
		os.MkdirAll(filepath.Join(dir, "tree", "usr", "sbin"), 0o755),
		os.WriteFile(filepath.Join(dir, "tree", "usr", "sbin", "tool"), []byte("tool"), 0o755),
		os.Symlink("tool", filepath.Join(dir, "tree", "usr", "sbin", "alias")),
		os.Chtimes(filepath.Join(dir, "program"), when, when),
		os.Chtimes(filepath.Join(dir, "tree", "usr", "sbin", "tool"), when, when),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The digest in the golden file is that of the whole image, so it pins every
// byte: an image made tomorrow, elsewhere, must be the same.
func TestImage(t *testing.T) {
	var all []string
	for _, when := range []time.Time{time.Unix(0, 0), time.Now()} {
		to := filepath.Join(t.TempDir(), "image.tar")
		if err := testImage().write("amd64", madeFiles(t, when), to); err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(to, nil)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(to) })
		if err != nil {
			t.Fatal(err)
		}
		sum, err := hashOf(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("tags %v\n%star %s\n", manifest[0].RepoTags, describe(t, img), sum))
	}
	if all[0] != all[1] {
		t.Errorf("two builds differ:\n%s\n%s", all[0], all[1])
	}
	golden.Equal(t, "image.golden", []byte(all[0]))
}

// describe lists what is in an image.
func describe(t *testing.T, img v1.Image) string {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "os %s/%s created %v entrypoint %v user %s env %v\n", config.OS, config.Architecture, config.Created, config.Config.Entrypoint, config.Config.User, config.Config.Env)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for entries := tar.NewReader(r); ; {
			h, err := entries.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "layer %d: %c %04o %d:%d %v %s %s %d\n", i, h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Name, h.Linkname, h.Size)
		}
	}
	return out.String()
}

func TestImageRefuses(t *testing.T) {
	for want, change := range map[string]func(*image){
		"image muster.local/test:1.0: layer 0: /x":        func(i *image) { i.Layers = []layer{{{Path: "/x", File: "none"}}} },
		"image muster.local/test:1.0: layer 0: tree none": func(i *image) { i.Layers = []layer{{{Path: "/", Tree: "none"}}} },
		"image test: ": func(i *image) { i.Ref = "test" },
	} {
		i := testImage()
		change(&i)
		if err := i.write("amd64", madeFiles(t, time.Now()), filepath.Join(t.TempDir(), "image.tar")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestPackRepeats(t *testing.T) {
	raw := []byte(strings.Repeat("some text that compresses, with a number: 0123456789\n", 200000))
	var first string
	for range 3 {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := pack(t.Context(), path, t.TempDir(), recipe{own: true}.level())
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = f.Blob
		}
		if f.Blob != first || f.Size != int64(len(raw)) || f.SHA256 != sha(raw) {
			t.Errorf("got %+v, first blob was %s", f, first)
		}
	}
}
