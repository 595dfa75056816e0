// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/muster-project/muster/plan/step"
)

// replay undoes the journal, last entry first. Units are not among it: their
// files have to be the old ones before they start.
func (a *Agent) replay(ctx context.Context, entries []Entry) error {
	for _, e := range slices.Backward(entries) {
		if e.Before == nil {
			continue
		}
		if err := a.restore(ctx, *e.Before); err != nil {
			return fmt.Errorf("restore %s %s: %w", e.Before.Kind, e.Before.Name, err)
		}
	}
	return nil
}

func (a *Agent) restore(ctx context.Context, b Before) error {
	switch b.Kind {
	case step.TouchPath:
		return restorePath(a.Host, b)
	case step.TouchSysctl:
		path := a.Host.Path(step.SysctlPath(b.Name))
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil // its module or device is gone
		}
		return os.WriteFile(path, []byte(b.Value), 0o644)
	case step.TouchUser:
		return a.removeUser(ctx, b)
	case step.TouchUnit:
		return nil // see startUnits
	}
	return nil
}

func (a *Agent) removeUser(ctx context.Context, b Before) error {
	if b.Existed {
		return nil
	}
	_, err := a.Host.Exec.Run(ctx, nil, "userdel", b.Name)
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) && exit.ExitCode() == 6 { // userdel(8): no such user
		return nil
	}
	return err
}

// startUnits starts what ran before muster, in the order of the journal.
func (a *Agent) startUnits(ctx context.Context, entries []Entry) error {
	var errs []error
	for _, e := range entries {
		if e.Before != nil && e.Before.Kind == step.TouchUnit && e.Before.Active {
			errs = append(errs, a.Host.Units.Restart(ctx, e.Before.Name))
		}
	}
	return errors.Join(errs...)
}

// restorePath can be repeated: what it puts back it keeps until the end of the
// reset, for an install may be tried again after a reset that was cut.
func restorePath(h *step.Host, b Before) error {
	path := h.Path(b.Name)
	if err := removeNew(h.Path(step.Temporary(b.Name)), false); err != nil {
		return err
	}
	if !b.Existed {
		return removeNew(path, b.Whole)
	}
	// A parent that changed its kind has its turn later: it was noted earlier.
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		if err := restoreFolder(filepath.Dir(path)); err != nil {
			return err
		}
	}
	switch {
	case b.Mode&fs.ModeSymlink != 0:
		return restoreLink(path, b)
	case b.Mode.IsDir():
		if err := restoreFolder(path); err != nil {
			return err
		}
	default:
		if err := restoreFile(h.Path(filepath.Join(StateDir, "before", b.Saved)), path); err != nil {
			return err
		}
	}
	// In this order: giving a file away takes its setuid bit.
	return errors.Join(os.Lchown(path, b.UID, b.GID), os.Chmod(path, b.Mode))
}

func restoreLink(path string, b Before) error {
	if target, err := os.Readlink(path); err != nil || target != b.Target {
		// A folder in its place is younger, and so is all that is in it.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.Symlink(b.Target, path); err != nil {
			return err
		}
	}
	return os.Lchown(path, b.UID, b.GID)
}

func restoreFolder(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.MkdirAll(path, 0o700)
}

// restoreFile gives the saved file its old name beside the saved one.
func restoreFile(saved, path string) error {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	tmp := path + ".muster-old"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Link(saved, tmp)
	if errors.Is(err, syscall.EXDEV) {
		err = copyFile(saved, tmp)
	}
	if err != nil {
		return err
	}
	// rename(2) does nothing, and leaves tmp, if both are the same file already.
	defer os.Remove(tmp)
	return os.Rename(tmp, path)
}

// removeNew removes what was not there before; a folder only if it is empty by
// now or belongs to the cluster whole. Others may have put things into it.
func removeNew(path string, whole bool) error {
	remove := os.Remove
	if whole {
		remove = os.RemoveAll
	}
	err := remove(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}
