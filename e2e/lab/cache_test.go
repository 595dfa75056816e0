// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func blocksOf(info os.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks }

func counted(key string, made *atomic.Int32) product {
	return product{kind: "thing", key: key, make: func(_ context.Context, dir string) error {
		made.Add(1)
		return os.WriteFile(filepath.Join(dir, "f"), []byte(key), 0o644)
	}}
}

func TestCacheMakesOnceForManyAtOnce(t *testing.T) {
	c := cache{dir: t.TempDir(), keep: 2}
	var made atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, err := c.get(t.Context(), counted("k", &made), func(string) {})
			if err != nil {
				t.Error(err)
			} else if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "k" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

func TestCacheFailureLeavesNothing(t *testing.T) {
	c := cache{dir: t.TempDir(), keep: 2}
	cause := errors.New("no")
	half := product{kind: "thing", key: "k", make: func(_ context.Context, dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), cause)
	}}
	if _, err := c.get(t.Context(), half, func(string) {}); !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
	var made atomic.Int32
	dir, err := c.get(t.Context(), counted("k", &made), func(string) {})
	if err != nil || made.Load() != 1 {
		t.Fatalf("the next try: %v, made %d times", err, made.Load())
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("half of the failed try is in the cache")
	}
}

func TestCacheKeepsTheLastUsed(t *testing.T) {
	c := cache{dir: t.TempDir(), keep: 2}
	var made atomic.Int32
	get := func(key string) {
		t.Helper()
		dir, err := c.get(t.Context(), counted(key, &made), func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		// Uses in one tick of the disk's clock have no order.
		at := time.Now().Add(time.Duration(made.Load()-10) * time.Hour)
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
	}
	get("a")
	get("b")
	if _, err := c.get(t.Context(), counted("a", &made), func(string) {}); err != nil { // used now
		t.Fatal(err)
	}
	get("c")
	for key, want := range map[string]bool{"a": true, "b": false, "c": true} {
		_, err := os.Stat(filepath.Join(c.dir, "thing-"+key))
		if got := err == nil; got != want {
			t.Errorf("%s kept: %v, want %v", key, got, want)
		}
	}
}

func TestCacheSpace(t *testing.T) {
	c := cache{dir: t.TempDir(), keep: 2}
	_, err := c.get(t.Context(), product{kind: "thing", key: "k", need: math.MaxUint64}, func(string) {})
	for _, want := range []string{"lab's thing", fmt.Sprint(uint64(math.MaxUint64)>>20, " MiB"), "MiB are free"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in %v", want, err)
		}
	}
}

func TestKeyOfTellsInputsApart(t *testing.T) {
	if keyOf("ab", "c") == keyOf("a", "bc") || keyOf("a") == keyOf("a", "") {
		t.Error("two lists of inputs, one key")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "lock")
	free := must[func() error](t)(lock(t.Context(), path, alone, func() {}))
	told := 0
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockRetry)
	defer cancel()
	if _, err := lock(ctx, path, shared, func() { told++ }); !errors.Is(err, context.DeadlineExceeded) || told != 1 {
		t.Errorf("a held lock: %v, told %d times", err, told)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	one := must[func() error](t)(lock(t.Context(), path, shared, func() {}))
	two := must[func() error](t)(lock(t.Context(), path, shared, func() { t.Error("sharers wait") }))
	if err := errors.Join(one(), two()); err != nil {
		t.Fatal(err)
	}
}

// The one who waits while the lock's file is removed must not end up with a
// lock on a file that nobody else can see.
func TestLockOfARemovedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	free := must[func() error](t)(lock(t.Context(), path, alone, func() {}))
	got := make(chan func() error)
	go func() {
		unlock, err := lock(t.Context(), path, alone, func() {})
		if err != nil {
			t.Error(err)
		}
		got <- unlock
	}()
	if err := errors.Join(os.Remove(path), free()); err != nil {
		t.Fatal(err)
	}
	defer (<-got)() //nolint:errcheck // the test ends
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockRetry)
	defer cancel()
	if _, err := lock(ctx, path, alone, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("two hold one lock: %v", err)
	}
}
