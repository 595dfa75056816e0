// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
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
)

// A Fault is one thing that is wrong with a bundle.
type Fault struct {
	Artifact string // whose it is; empty if it is nobody's
	Path     string // file of the bundle, relative to its directory, with slashes
	Reason   string
}

// String is the fault on one line.
func (f Fault) String() string {
	if f.Artifact == "" {
		return f.Path + ": " + f.Reason
	}
	return f.Path + " (" + f.Artifact + "): " + f.Reason
}

// Verify reads the whole bundle again, from the disk, and returns every fault,
// sorted by path: what is damaged (one flipped bit is enough), missing or not
// part of it. A bundle is whole when there is none. If ctx ends first, that is
// a fault too, since the rest was not read.
func (b *Bundle) Verify(ctx context.Context) []Fault {
	v := verifier{dir: b.dir, expected: map[string]bool{}}
	v.fixed("oci-layout", layoutFile)
	v.index(b)
	v.fixed(blobName(sum([]byte(emptyConfig)).Hex), emptyConfig)
	for _, a := range b.artifacts {
		v.manifest(a)
		for _, f := range a.Files {
			v.file(ctx, a.Name, f)
		}
	}
	v.extras()
	slices.SortFunc(v.faults, func(x, y Fault) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Artifact, y.Artifact), cmp.Compare(x.Reason, y.Reason))
	})
	return v.faults
}

func blobName(hex string) string { return "blobs/sha256/" + hex }

type verifier struct {
	dir      string
	expected map[string]bool // paths that belong to the bundle
	faults   []Fault
}

func (v *verifier) fault(artifact, path, format string, args ...any) {
	v.faults = append(v.faults, Fault{Artifact: artifact, Path: path, Reason: fmt.Sprintf(format, args...)})
}

// fixed checks a file whose content is the same in every bundle.
func (v *verifier) fixed(path, want string) {
	v.expected[path] = true
	got, err := os.ReadFile(filepath.Join(v.dir, path))
	if err != nil {
		v.fault("", path, "%s", reason(err))
	} else if string(got) != want {
		v.fault("", path, "content differs from the only one possible, %q", want)
	}
}

func (v *verifier) index(b *Bundle) {
	const path = "index.json"
	v.expected[path] = true
	raw, err := os.ReadFile(filepath.Join(v.dir, path))
	if err != nil {
		v.fault("", path, "%s", reason(err))
	} else if sum(raw) != b.index {
		v.fault("", path, "changed since the bundle was opened")
	}
}

func (v *verifier) manifest(a Artifact) {
	raw, err := EncodeManifest(a)
	if err != nil {
		v.fault(a.Name, "index.json", "%v", err)
		return
	}
	path := blobName(sum(raw).Hex)
	v.expected[path] = true
	got, err := os.ReadFile(filepath.Join(v.dir, path))
	if err != nil {
		v.fault(a.Name, path, "%s", reason(err))
	} else if sum(got) != sum(raw) {
		v.fault(a.Name, path, "the manifest's digest is %s", sum(got).Hex)
	}
}

// file checks a blob and its content in one pass: a blob may be whole and
// still not hold what its manifest promises, if the builder was wrong.
func (v *verifier) file(ctx context.Context, artifact string, f File) {
	path := blobName(f.Blob)
	v.expected[path] = true
	if err := ctx.Err(); err != nil {
		v.fault(artifact, path, "not verified: %v", context.Cause(ctx))
		return
	}
	blob, err := os.Open(filepath.Join(v.dir, path))
	if err != nil {
		v.fault(artifact, path, "%s", reason(err))
		return
	}
	defer blob.Close()
	whole := sha256.New()
	var size counter
	tee := io.TeeReader(contextReader{ctx, blob}, io.MultiWriter(whole, &size))
	contentErr := drain(io.NopCloser(tee), f)
	// What the decompressor left: nothing, in a whole blob.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		v.fault(artifact, path, "%s", reason(err))
		return
	}
	if got := fmt.Sprintf("%x", whole.Sum(nil)); got != f.Blob {
		v.fault(artifact, path, "%s: the blob's sha256 is %s", f.Name, got)
	} else if int64(size) != f.BlobSize {
		v.fault(artifact, path, "%s: %d bytes, promised were %d", f.Name, size, f.BlobSize)
	} else if contentErr != nil {
		v.fault(artifact, path, "%v", contentErr)
	}
}

// drain reads a file's content to its end and returns what is wrong with it.
func drain(blob io.ReadCloser, f File) error {
	c, err := newContent(blob, f)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(io.Discard, c)
	return err
}

func (v *verifier) extras() {
	err := filepath.WalkDir(v.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(v.dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		known := v.expected[rel]
		switch {
		case entry.IsDir() && (rel == "." || rel == "blobs" || rel == "blobs/sha256"):
		case entry.IsDir():
			v.fault("", rel, "a directory that is not part of the bundle")
			return fs.SkipDir
		case !known && strings.HasPrefix(rel, "blobs/"):
			v.fault("", rel, "no artifact needs this blob")
		case !known:
			v.fault("", rel, "not part of the bundle")
		case !entry.Type().IsRegular():
			v.fault("", rel, "not a regular file: %v", entry.Type())
		}
		return nil
	})
	if err != nil {
		v.fault("", ".", "%s", reason(err))
	}
}

// reason is an I/O error without the path, which stands in the fault already.
func reason(err error) string {
	var pathError *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.As(err, &pathError):
		return pathError.Op + ": " + pathError.Err.Error()
	}
	return err.Error()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// contextReader ends a long read with ctx.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
