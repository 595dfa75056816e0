// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever makes or removes a lab holds its lock alone; whoever does something
// to one of its machines shares it, and holds the machine's lock alone. The
// kernel frees both when the process ends.

// sharing says who else may hold a lock at the same time.
type sharing int

const (
	alone  sharing = unix.LOCK_EX
	shared sharing = unix.LOCK_SH
)

// lockOf is outside of the lab's directory, which Down removes.
func lockOf(d labDir) string {
	return filepath.Join(filepath.Dir(string(d)), "."+filepath.Base(string(d))+".lock")
}

// lockRetry is how often a taken lock is tried again; flock(2) itself could
// not be interrupted by a context.
const lockRetry = 100 * time.Millisecond

// lock holds the file until the returned function is called. waiting is called
// once if somebody else holds it.
func lock(ctx context.Context, path string, how sharing, waiting func()) (func() error, error) {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for told := false; ; told = true {
		unlock, err := tryLock(path, how)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, held by another muster: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// tryLock gives EWOULDBLOCK when somebody else holds the file.
func tryLock(path string, how sharing) (func() error, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), int(how)|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Down removes the file while it holds it: a lock on the removed one keeps
	// nobody out.
	mine, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(mine, now) {
		return nil, errors.Join(unix.EWOULDBLOCK, f.Close())
	}
	return f.Close, nil
}
