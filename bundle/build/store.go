// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/bundle/internal/atomicfile"
)

// window is how far back the compressor looks, and so the memory a host needs
// to decompress, in bytes.
const window = 8 << 20

// pack compresses the file at path into a blob in dir, named by its digest. The
// same content gives the same blob: the encoder runs in one goroutine.
func pack(ctx context.Context, path, dir string, level zstd.EncoderLevel) (bundle.File, error) {
	f, err := packTo(ctx, path, dir, level)
	if err != nil {
		return bundle.File{}, fmt.Errorf("compress %s: %w", path, err)
	}
	return f, nil
}

func packTo(ctx context.Context, path, dir string, level zstd.EncoderLevel) (bundle.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return bundle.File{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return bundle.File{}, err
	}
	blob, err := atomicfile.Create(dir)
	if err != nil {
		return bundle.File{}, err
	}
	defer blob.Discard()

	content, stored := sha256.New(), sha256.New()
	enc, err := zstd.NewWriter(io.MultiWriter(blob, stored),
		zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return bundle.File{}, err
	}
	size, err := io.Copy(io.MultiWriter(enc, content), contextReader{ctx, in})
	if err := errors.Join(err, enc.Close()); err != nil {
		return bundle.File{}, err
	}
	f := bundle.File{
		Name:   filepath.Base(path),
		Mode:   info.Mode().Perm(),
		SHA256: hex.EncodeToString(content.Sum(nil)),
		Size:   size,
		Blob:   hex.EncodeToString(stored.Sum(nil)),
	}
	if f.BlobSize, err = blob.Seek(0, io.SeekCurrent); err != nil {
		return bundle.File{}, err
	}
	return f, blob.Commit(filepath.Join(dir, f.Blob), 0o644)
}

// copyBlob brings a blob of the cache into a bundle. One that is there already
// is kept, if it is whole.
func copyBlob(ctx context.Context, from, to, hash string) error {
	if got, err := hashOf(ctx, to); err == nil && got == hash {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at blob %s: %w", to, err)
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy blob: %w", err)
	}
	defer in.Close()
	out, err := atomicfile.Create(filepath.Dir(to))
	if err != nil {
		return fmt.Errorf("copy blob: %w", err)
	}
	defer out.Discard()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), contextReader{ctx, in}); err != nil {
		return fmt.Errorf("copy blob %s: %w", from, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != hash {
		return fmt.Errorf("copy blob %s: %w: its sha256 is %s", from, errDamaged, got)
	}
	return out.Commit(to, 0o644)
}

// errDamaged is the error of a file of the cache that is not what it was.
var errDamaged = errors.New("damaged")

func hashOf(ctx context.Context, path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, in}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// contextReader ends a long read with its context.
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
