// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// Blob is content of the bundle: what it is when unpacked, and the compressed
// blob that carries it.
type Blob struct {
	SHA256     string // hex, of the content
	Size       int64  // bytes of content
	Compressed string // hex SHA-256 of the zstd blob, its name in the bundle
	Transfer   int64  // bytes of the zstd blob
}

// Install is a file of the bundle put at a path.
type Install struct {
	Path string
	Mode fs.FileMode
	Blob Blob
}

func (i Install) String() string {
	return fmt.Sprintf("install %s (%d MB, sha256 %.12s)", i.Path, (i.Blob.Size+1<<19)>>20, i.Blob.SHA256)
}

// Touches names the file.
func (i Install) Touches() []Touch { return paths(i.Path) }

// Done compares content, mode and owner.
func (i Install) Done(_ context.Context, h *Host) (bool, error) {
	right, err := attributesRight(h, i.Path, i.Mode, "")
	if err != nil || !right {
		return false, err
	}
	got, err := h.Sum(i.Path)
	return err == nil && got == i.Blob.SHA256, err
}

// Do streams the blob from the operator and checks its content before the
// file gets its name. A program that is being executed is replaced by rename,
// so ETXTBSY cannot happen.
func (i Install) Do(ctx context.Context, h *Host) error {
	err := h.withBlob(ctx, i.Blob, func(r io.Reader) error {
		return h.WriteFile(i.Path, i.Mode, "", r)
	})
	if err != nil {
		return err
	}
	return h.noteSum(i.Path, i.Blob.SHA256)
}

// withBlob hands the decompressed blob to use and fails, before use can
// commit what it read, if the content is not what the bundle promised.
func (h *Host) withBlob(ctx context.Context, b Blob, use func(io.Reader) error) error {
	compressed, err := h.Operator.Blob(ctx, b.Compressed)
	if err != nil {
		return fmt.Errorf("fetch blob %.12s: %w", b.Compressed, err)
	}
	defer compressed.Close()
	unpacked, err := zstd.NewReader(compressed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("unpack blob %.12s: %w", b.Compressed, err)
	}
	defer unpacked.Close()
	return use(&checked{r: unpacked, digest: sha256.New(), want: b.SHA256})
}

// ErrContent says that a blob did not hold what the bundle promised.
var ErrContent = errors.New("content differs from its SHA-256")

// checked turns the end of a stream into an error if its sum is wrong.
type checked struct {
	r      io.Reader
	digest hash.Hash
	want   string
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.digest.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(c.digest.Sum(nil)); got != c.want {
			return n, fmt.Errorf("%w: want %.12s, got %.12s: run `muster bundle verify`", ErrContent, c.want, got)
		}
	}
	return n, err
}

// Image is a container image of the bundle imported into containerd.
type Image struct {
	Ref  string
	Blob Blob // an OCI or Docker archive
}

const (
	ctr       = "/opt/muster/bin/ctr"
	imagesDir = "/var/lib/muster/images"
)

func (i Image) String() string { return fmt.Sprintf("image %s (sha256 %.12s)", i.Ref, i.Blob.SHA256) }

// Touches nothing that outlives containerd's own directory.
func (i Image) Touches() []Touch { return nil }

func (i Image) stamp() string {
	return imagesDir + "/" + strings.NewReplacer("/", "_", ":", "_").Replace(i.Ref)
}

// Done holds when containerd has the name and it came from this archive.
func (i Image) Done(ctx context.Context, h *Host) (bool, error) {
	stamp, err := os.ReadFile(h.Path(i.stamp()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || string(stamp) != i.Blob.SHA256 {
		return false, err
	}
	out, err := h.Exec.Run(ctx, nil, ctr, "-n", "k8s.io", "images", "ls", "-q", "name=="+i.Ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	return err == nil && strings.TrimSpace(string(out)) == i.Ref, err
}

// Do streams the archive into containerd and then notes its sum.
func (i Image) Do(ctx context.Context, h *Host) error {
	err := h.withBlob(ctx, i.Blob, func(r io.Reader) error {
		_, err := h.Exec.Run(ctx, r, ctr, "-n", "k8s.io", "images", "import", "--local", "--digests=false", "-")
		return err
	})
	if err != nil {
		return fmt.Errorf("import %s: %w", i.Ref, err)
	}
	return h.WriteFile(i.stamp(), 0o644, "", strings.NewReader(i.Blob.SHA256))
}
