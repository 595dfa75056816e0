// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cache holds what takes minutes to make, one directory per content:
// <kind>-<key>. Makers in other processes wait for each other.
type cache struct {
	dir  string
	keep int // entries of one kind that survive
}

// cacheKeep leaves room for the version before, so that going back and forth
// between two branches builds nothing.
const cacheKeep = 2

func openCache() (cache, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return cache{}, fmt.Errorf("find the cache directory: %w: set XDG_CACHE_HOME or HOME", err)
	}
	return cache{dir: filepath.Join(dir, "muster", "lab"), keep: cacheKeep}, nil
}

// product is something the cache can make.
type product struct {
	kind string
	key  string // from keyOf: all that the result depends on
	need uint64 // bytes of disk space while it is made
	make func(ctx context.Context, dir string) error
}

// keyOf hashes the inputs of a product; order matters.
func keyOf(inputs ...string) string {
	h := sha256.New()
	for _, in := range inputs {
		fmt.Fprintf(h, "%d:%s", len(in), in) //nolint:errcheck // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// get gives the product's directory, making it if need be.
func (c cache) get(ctx context.Context, p product, say func(what string)) (string, error) {
	unlock, err := lock(ctx, filepath.Join(c.dir, p.kind+".lock"), alone, func() { say("another muster makes it, waiting") })
	if err != nil {
		return "", err
	}
	defer unlock() //nolint:errcheck // the lock ends with its descriptor either way
	dir := filepath.Join(c.dir, p.kind+"-"+p.key)
	now := time.Now()
	// The time of last use decides what prune removes.
	if err := os.Chtimes(dir, now, now); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	half := filepath.Join(c.dir, "."+p.kind+".half")
	if err := errors.Join(os.RemoveAll(half), os.MkdirAll(half, 0o755)); err != nil {
		return "", fmt.Errorf("make the lab's %s: %w", p.kind, err)
	}
	defer os.RemoveAll(half) //nolint:errcheck // the next get tries again
	if err := checkSpace(c.dir, p.need); err != nil {
		return "", fmt.Errorf("make the lab's %s: %w", p.kind, err)
	}
	if err := p.make(ctx, half); err != nil {
		return "", fmt.Errorf("make the lab's %s: %w", p.kind, err)
	}
	if err := os.Rename(half, dir); err != nil {
		return "", fmt.Errorf("make the lab's %s: %w", p.kind, err)
	}
	return dir, c.prune(p.kind)
}

// prune removes all but the last used entries of a kind. Labs that run on a
// removed one have their own link to it.
func (c cache) prune(kind string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("prune the lab's cache: %w", err)
	}
	type entry struct {
		path string
		used time.Time
	}
	var all []entry
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), kind+"-") {
			all = append(all, entry{filepath.Join(c.dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.path, b.path)) })
	var errs []error
	for _, e := range all[min(c.keep, len(all)):] {
		errs = append(errs, os.RemoveAll(e.path))
	}
	return errors.Join(errs...)
}

// checkSpace tells whether a directory's disk has that many bytes left.
func checkSpace(dir string, need uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("read the free space of %s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("%s: needs %d MiB of disk space, %d MiB are free: free some, or set XDG_CACHE_HOME to a larger disk",
			dir, need>>20, free>>20)
	}
	return nil
}

// place makes the file at from available at to without copying where the disk
// allows it.
func place(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, unix.EXDEV) {
		return copySparse(from, to)
	}
	return err
}
