// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fetch takes release files instead of building. No file is used, or kept as if
// it were whole, before it has the checksum its project gives it.
type fetch struct {
	origin  origin
	release release
}

// useReleases lets all recipes whose projects release files take those. The
// others are built as ever.
func useReleases(recipes []recipe, from string) ([]recipe, error) {
	o, err := parseOrigin(from)
	if err != nil {
		return nil, err
	}
	recipes = slices.Clone(recipes)
	for i, r := range recipes {
		if r.release == nil {
			continue
		}
		recipes[i].makers = []maker{fetch{origin: o, release: *r.release}}
		recipes[i].module = "release of " + r.module
	}
	return recipes, nil
}

func (f fetch) tools() []tool              { return nil }
func (f fetch) toolchain(*workshop) string { return "" }

// checksumLimit bounds what is read as a checksum file; the largest known has
// 5 kB.
const checksumLimit = 1 << 20

// checksum fetches the SHA256 that a project gives one of its files.
func (f fetch) checksum(ctx context.Context, w *workshop, file releaseFile) (string, error) {
	r, _, err := f.origin.open(ctx, w.client, file.checksum, 0)
	if err != nil {
		return "", fmt.Errorf("%w: without a checksum %s is not used", err, file.path)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, checksumLimit))
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", f.origin.name(file.checksum), err)
	}
	sum, err := parseChecksum(raw, path.Base(file.path))
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.origin.name(file.checksum), err)
	}
	return sum, nil
}

// inputs are the checksums: they say all about the files.
func (f fetch) inputs(ctx context.Context, w *workshop) (string, error) {
	var all []string
	for _, file := range f.release.files {
		sum, err := f.checksum(ctx, w, file)
		if err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("%s %s %q %s", file.path, sum, file.members, file.program))
	}
	return strings.Join(all, "\n"), nil
}

func (f fetch) make(ctx context.Context, w *workshop, dir string) error {
	for _, file := range f.release.files {
		if err := f.makeFile(ctx, w, dir, file); err != nil {
			return err
		}
	}
	return nil
}

func (f fetch) makeFile(ctx context.Context, w *workshop, dir string, file releaseFile) error {
	sum, err := f.checksum(ctx, w, file)
	if err != nil {
		return err
	}
	unlock, err := cache{w.cache}.lock(ctx, "download-"+sum, func() {})
	if err != nil {
		return err
	}
	defer unlock()
	got, err := f.download(ctx, w, file, sum)
	if err != nil {
		return err
	}
	if file.members == nil {
		err = copyFile(got, filepath.Join(dir, file.program))
	} else {
		err = extract(got, dir, file.members)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.origin.name(file.path), err)
	}
	return nil
}

// downloads is where fetched files are, under their SHA256: whole ones until the
// build is through, and begun ones (.part) until somebody finishes them.
func downloads(cacheDir string) string { return filepath.Join(cacheDir, "downloads") }

// download returns the path of a whole file. It goes on with what an earlier,
// cut download left.
func (f fetch) download(ctx context.Context, w *workshop, file releaseFile, sum string) (string, error) {
	whole := filepath.Join(downloads(w.cache), sum)
	if got, err := hashOf(ctx, whole); err == nil && got == sum {
		return whole, nil
	}
	if err := os.MkdirAll(filepath.Dir(whole), 0o755); err != nil {
		return "", fmt.Errorf("make a place for downloads: %w", err)
	}
	part := whole + ".part"
	if err := f.fill(ctx, w, file, part); err != nil {
		return "", err
	}
	got, err := hashOf(ctx, part)
	if err != nil {
		return "", fmt.Errorf("download %s: %w", file.path, err)
	}
	if got != sum {
		return "", errors.Join(
			fmt.Errorf("%s has the SHA256 %s, and its project says %s: refused; it was cut or changed on its way, so fetch it again", f.origin.name(file.path), got, sum),
			os.Remove(part))
	}
	if err := os.Rename(part, whole); err != nil {
		return "", fmt.Errorf("download %s: %w", file.path, err)
	}
	return whole, nil
}

// fill fetches what the file part lacks.
func (f fetch) fill(ctx context.Context, w *workshop, file releaseFile, part string) error {
	var have int64
	if info, err := os.Stat(part); err == nil {
		have = info.Size()
	}
	r, at, err := f.origin.open(ctx, w.client, file.path, have)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("download %s: %w", file.path, err)
	}
	defer out.Close()
	if err := errors.Join(out.Truncate(at), seek(out, at)); err != nil {
		return fmt.Errorf("download %s: %w", file.path, err)
	}
	if _, err := io.Copy(out, contextReader{ctx, r}); err != nil {
		return fmt.Errorf("fetch %s: %w; run it again to go on from there", f.origin.name(file.path), err)
	}
	return out.Close()
}

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFrom(in, to)
}

func writeFrom(r io.Reader, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}

// extract takes members out of a .tar.gz. Only their names in members decide
// where they go, not those in the archive.
func extract(archive, dir string, members map[string]string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	wanted := maps.Clone(members)
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		member := path.Clean(h.Name)
		program, ok := wanted[member]
		if !ok || !h.FileInfo().Mode().IsRegular() {
			continue
		}
		if err := writeFrom(t, filepath.Join(dir, program)); err != nil {
			return fmt.Errorf("extract %s: %w", member, err)
		}
		delete(wanted, member)
	}
	if len(wanted) > 0 {
		return fmt.Errorf("the archive lacks %s", strings.Join(slices.Sorted(maps.Keys(wanted)), ", "))
	}
	return nil
}

// keepPart is how long a begun download waits for somebody to go on with it.
const keepPart = 7 * 24 * time.Hour

func old(e fs.DirEntry) bool {
	info, err := e.Info()
	return err == nil && time.Since(info.ModTime()) > keepPart
}

// removeDownloads removes the whole files: what is made from them is in the
// cache now. Begun ones stay, to be gone on with.
func removeDownloads(ctx context.Context, w *workshop) error {
	entries, err := os.ReadDir(downloads(w.cache))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove downloads: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".part") && !old(e) {
			continue
		}
		unlock, err := cache{w.cache}.lock(ctx, "download-"+e.Name(), func() {})
		if err != nil {
			return err
		}
		err = os.Remove(filepath.Join(downloads(w.cache), e.Name()))
		unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove downloads: %w", err)
		}
	}
	return nil
}
