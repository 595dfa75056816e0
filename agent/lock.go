// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-project/muster/agent/protocol"
)

const lockPath = "/run/muster/lock"

// Lock keeps a second operator away. It is a flock held by the life of this
// process, so it cannot stick: it ends with the connection.
type Lock struct{ file *os.File }

// lockPatience is how long a lock is waited for: a muster that was ended with
// Ctrl-C leaves its agent the moment to finish the step it is in, and the same
// command run again at once should not trip over it.
const lockPatience = 5 * time.Second

func (a *Agent) takeLock(ctx context.Context, operator string, w *protocol.Writer) error {
	if a.lock != nil {
		return w.Value(protocol.Ack{})
	}
	patience, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		lock, err := acquire(a.Host.Path(lockPath), operator, a.Host.Now())
		if err == nil {
			a.lock = lock
			return w.Value(protocol.Ack{})
		}
		var held *HeldError
		if !errors.As(err, &held) {
			return err
		}
		select {
		case <-patience.Done():
			return err
		case <-tick.C:
		}
	}
}

// HeldError says that another operator has the host's lock.
type HeldError struct{ Holder string }

func (e *HeldError) Error() string {
	return fmt.Sprintf("locked by %s: wait for it to end (it notices a lost connection within minutes), or end that process on the host", e.Holder)
}

func acquire(path, operator string, now time.Time) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(&HeldError{strings.TrimSpace(string(holder))}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	text := fmt.Sprintf("%s since %s (muster-node, pid %d)\n", operator, now.UTC().Format(time.RFC3339), os.Getpid())
	if err := errors.Join(f.Truncate(0), write(f, text)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

func write(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Release lets the next one in. The file stays: removing it would let two
// holders lock two files of the same name.
func (l *Lock) Release() error { return l.file.Close() }
