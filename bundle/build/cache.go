// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/muster-project/muster/bundle"
)

// cache keeps finished artifacts, each apart from the others:
//
//	DIR/artifacts/NAME/KEY/manifest.json
//	DIR/artifacts/NAME/KEY/BLOB
//	DIR/locks/NAME
//	DIR/tmp/                              what is being made
//
// An entry gets its name when it is complete.
type cache struct{ dir string }

// keepEntries is how many entries of one artifact stay: enough to go back and
// forth between two states of the tree, and a bound.
const keepEntries = 3

const manifestName = "manifest.json"

func (c cache) entry(name, key string) string { return filepath.Join(c.dir, "artifacts", name, key) }

// load returns the artifact of an entry. An entry that cannot be read is as good
// as none.
func (c cache) load(name, key string) (bundle.Artifact, bool) {
	dir := c.entry(name, key)
	raw, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return bundle.Artifact{}, false
	}
	a, err := bundle.DecodeManifest(raw)
	if err != nil {
		return bundle.Artifact{}, false
	}
	// Its age decides which entries prune removes. That it stays old is no harm.
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
	return a, true
}

// store gives a complete directory of blobs its name in the cache.
func (c cache) store(dir, key string, a bundle.Artifact) error {
	raw, err := bundle.EncodeManifest(a)
	if err != nil {
		return err
	}
	entry := c.entry(a.Name, key)
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, manifestName), raw, 0o644),
		os.MkdirAll(filepath.Dir(entry), 0o755),
		os.RemoveAll(entry), // damaged, or it would have been used
	)
	if err == nil {
		err = os.Rename(dir, entry)
	}
	if err != nil {
		return fmt.Errorf("keep %s in the cache: %w", a.Name, err)
	}
	return c.prune(a.Name)
}

func (c cache) drop(name, key string) error { return os.RemoveAll(c.entry(name, key)) }

// prune removes the oldest entries of an artifact.
func (c cache) prune(name string) error {
	dir := filepath.Join(c.dir, "artifacts", name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old entries of the cache: %w", err)
	}
	var infos []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(x, y fs.FileInfo) int { return cmp.Compare(y.ModTime().UnixNano(), x.ModTime().UnixNano()) })
	for _, info := range infos[min(keepEntries, len(infos)):] {
		if err := os.RemoveAll(filepath.Join(dir, info.Name())); err != nil {
			return fmt.Errorf("remove an old entry of the cache: %w", err)
		}
	}
	return nil
}

// lockEvery is how often a taken lock is tried again. flock cannot be waited for
// together with a context.
const lockEvery = 200 * time.Millisecond

// lock keeps other processes away from what name stands for, until unlock.
// waiting is called once if another one has it.
func (c cache) lock(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	dir := filepath.Join(c.dir, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			// Closing the file unlocks it.
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for the lock %s: %w", file.Name(), context.Cause(ctx))
		case <-tick.C:
		}
	}
}
