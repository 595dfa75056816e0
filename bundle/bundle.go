// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/internal/nearest"
)

// A Bundle is an opened bundle. It holds no file open and is safe for use by
// several goroutines.
type Bundle struct {
	dir       string
	artifacts []Artifact // sorted by name
	index     v1.Hash
}

// Open reads the index and the manifests of the bundle in dir, all of them,
// strictly. It does not read the files: OpenFile checks each as it is read, and
// Verify checks everything.
func Open(dir string) (*Bundle, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open bundle %s: no index.json there; `muster bundle build --out %s` makes a bundle: %w", dir, dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	artifacts, err := readIndex(raw, func(blob string) ([]byte, error) { return os.ReadFile(blobPath(dir, blob)) })
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", dir, err)
	}
	return &Bundle{dir: dir, artifacts: artifacts, index: sum(raw)}, nil
}

// readIndex returns what an index says, with the manifests that read gives by
// their digests.
func readIndex(raw []byte, read func(blob string) ([]byte, error)) ([]Artifact, error) {
	manifests, err := decodeIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var artifacts []Artifact
	for _, d := range manifests {
		a, err := readManifest(d, read)
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, a)
	}
	again, err := EncodeIndex(artifacts)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if !bytes.Equal(raw, again) {
		return nil, fmt.Errorf("index.json: %w", errNotCanonical)
	}
	return artifacts, nil
}

func readManifest(d v1.Descriptor, read func(blob string) ([]byte, error)) (Artifact, error) {
	raw, err := read(d.Digest.Hex)
	if err != nil {
		return Artifact{}, fmt.Errorf("manifest of %q: %w", d.Annotations[keyName], err)
	}
	if got := sum(raw); got != d.Digest {
		return Artifact{}, fmt.Errorf("manifest of %q: %s has the digest %s: damaged; build the bundle again", d.Annotations[keyName], d.Digest, got)
	}
	a, err := DecodeManifest(raw)
	if err != nil {
		return Artifact{}, fmt.Errorf("manifest of %q: %w", d.Annotations[keyName], err)
	}
	return a, nil
}

// Dir is where the bundle is.
func (b *Bundle) Dir() string { return b.dir }

// Version identifies what is in the bundle: its Kubernetes version and the
// beginning of the digest of its index, such as 1.36.3+0a1b2c3d4e5f.
func (b *Bundle) Version() string { return b.Kubernetes() + "+" + b.index.Hex[:12] }

// Kubernetes is the version of the Kubernetes in the bundle, such as 1.36.3. It
// is empty if there is none in it.
func (b *Bundle) Kubernetes() string {
	a, err := b.Lookup("kubernetes")
	if err != nil {
		return ""
	}
	return a.Version
}

// Artifacts are all artifacts, sorted by name. The slice is the caller's.
func (b *Bundle) Artifacts() []Artifact { return slices.Clone(b.artifacts) }

// Lookup finds an artifact by its name. The error of a name that is not there
// names those most like it.
func (b *Bundle) Lookup(name string) (Artifact, error) {
	var names []string
	for _, a := range b.artifacts {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	hint := "it is empty"
	if len(names) > 0 {
		hint = "nearest: " + strings.Join(nearest.Three(name, names), ", ")
	}
	return Artifact{}, fmt.Errorf("bundle %s has no artifact %q (%s); `muster bundle build --only %s --out %s` adds it, if muster knows it",
		b.dir, name, hint, name, b.dir)
}

// OpenBlob opens a stored blob, zstd-compressed, by its digest in hex. What is
// read from it is not checked.
func (b *Bundle) OpenBlob(blob string) (io.ReadCloser, error) {
	if !isSHA256(blob) {
		return nil, fmt.Errorf("open blob %q: want 64 lower-case hex digits", blob)
	}
	file, err := os.Open(blobPath(b.dir, blob))
	if err != nil {
		return nil, fmt.Errorf("open blob of bundle %s: %w", b.dir, err)
	}
	return file, nil
}

// OpenFile opens the content of a file. A reader that sees io.EOF has read
// exactly the content f promises; anything else ends in another error.
func (b *Bundle) OpenFile(f File) (io.ReadCloser, error) {
	blob, err := b.OpenBlob(f.Blob)
	if err != nil {
		return nil, err
	}
	content, err := newContent(blob, f)
	if err != nil {
		blob.Close()
		return nil, err
	}
	return content, nil
}

func blobPath(dir, blob string) string { return filepath.Join(dir, "blobs", "sha256", blob) }

// content decompresses a blob and holds it against what its file promises.
type content struct {
	file File
	blob io.Closer
	zstd *zstd.Decoder
	hash hash.Hash
	read int64
}

func newContent(blob io.ReadCloser, f File) (*content, error) {
	// One goroutine less per file, and readers of several files at once are
	// the rule: a host takes many artifacts side by side.
	dec, err := zstd.NewReader(blob, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", f.Name, err)
	}
	return &content{file: f, blob: blob, zstd: dec, hash: sha256.New()}, nil
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.zstd.Read(p)
	c.hash.Write(p[:n]) // never fails: see package hash
	c.read += int64(n)
	switch {
	case c.read > c.file.Size:
		return 0, c.fault("longer than the %d bytes promised", c.file.Size)
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return 0, c.fault("%w", err)
	case c.read < c.file.Size:
		return 0, c.fault("ends after %d of %d bytes", c.read, c.file.Size)
	}
	if got := fmt.Sprintf("%x", c.hash.Sum(nil)); got != c.file.SHA256 {
		return 0, c.fault("content has the sha256 %s, promised was %s", got, c.file.SHA256)
	}
	return n, io.EOF
}

func (c *content) fault(format string, args ...any) error {
	return fmt.Errorf("blob %s of %s is damaged, build the bundle again: "+format, append([]any{c.file.Blob, c.file.Name}, args...)...)
}

func (c *content) Close() error {
	c.zstd.Close()
	return c.blob.Close()
}
