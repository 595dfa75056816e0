// SPDX-License-Identifier: Apache-2.0

package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// File is a file with these bytes, mode and owner. Data is text that may be
// printed in a plan: secrets are never in a plan, see Certificate and Token.
type File struct {
	Path  string
	Mode  fs.FileMode
	Owner string // user name; its group is the group; empty is root
	Data  string
}

func (f File) String() string   { return fmt.Sprintf("file %s", f.Path) }
func (f File) Touches() []Touch { return paths(f.Path) }

// Done compares bytes, mode and owner.
func (f File) Done(_ context.Context, h *Host) (bool, error) {
	right, err := attributesRight(h, f.Path, f.Mode, f.Owner)
	if err != nil || !right {
		return false, err
	}
	got, err := os.ReadFile(h.Path(f.Path))
	return err == nil && string(got) == f.Data, err
}

// Do replaces the file whole.
func (f File) Do(_ context.Context, h *Host) error {
	return h.WriteFile(f.Path, f.Mode, f.Owner, bytes.NewReader([]byte(f.Data)))
}

// Directory is a directory with this mode and owner. Whole says that its
// contents belong to the cluster and leave with it.
type Directory struct {
	Path  string
	Mode  fs.FileMode
	Owner string
	Whole bool
}

func (d Directory) String() string { return fmt.Sprintf("directory %s", d.Path) }

// Touches names the directory.
func (d Directory) Touches() []Touch {
	return []Touch{{Kind: TouchPath, Name: d.Path, Whole: d.Whole}}
}

// Done compares mode and owner.
func (d Directory) Done(_ context.Context, h *Host) (bool, error) {
	return attributesRight(h, d.Path, d.Mode|fs.ModeDir, d.Owner)
}

// Do makes the directory and its parents.
func (d Directory) Do(_ context.Context, h *Host) error {
	full := h.Path(d.Path)
	if err := os.MkdirAll(full, d.Mode.Perm()); err != nil {
		return err
	}
	if err := os.Chmod(full, d.Mode.Perm()); err != nil {
		return err
	}
	return chown(h, full, d.Owner)
}

// Link is a symbolic link.
type Link struct{ Path, Target string }

func (l Link) String() string   { return fmt.Sprintf("link %s -> %s", l.Path, l.Target) }
func (l Link) Touches() []Touch { return paths(l.Path) }

// Done compares the target.
func (l Link) Done(_ context.Context, h *Host) (bool, error) {
	got, err := os.Readlink(h.Path(l.Path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
		return false, nil
	}
	return err == nil && got == l.Target, err
}

// Do replaces the link in one rename.
func (l Link) Do(_ context.Context, h *Host) error {
	full := h.Path(l.Path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	defer h.writing.lock(l.Path)()
	tmp := h.Path(Temporary(l.Path))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(l.Target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, full); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// Absent is a file that must not be there.
type Absent struct{ Path string }

func (a Absent) String() string   { return fmt.Sprintf("remove %s", a.Path) }
func (a Absent) Touches() []Touch { return paths(a.Path) }

// Done holds when nothing has the name.
func (a Absent) Done(_ context.Context, h *Host) (bool, error) {
	_, err := os.Lstat(h.Path(a.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Do removes the file.
func (a Absent) Do(_ context.Context, h *Host) error {
	err := os.Remove(h.Path(a.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func attributesRight(h *Host, path string, mode fs.FileMode, owner string) (bool, error) {
	info, err := os.Lstat(h.Path(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode() != mode {
		return false, nil
	}
	uid, gid, known, err := ids(h, owner)
	if err != nil || !known {
		return false, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid) == uid && int(st.Gid) == gid, nil
}

// Temporary is the name under which a file or link is made beside its place.
// It is always the same one, so that what a killed process left there is taken
// away by the next attempt, or by a reset.
func Temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".muster-new")
}

// WriteFile replaces a file of the host whole: temporary beside it, mode and
// owner before the name, sync, rename. A cut leaves the old file.
func (h *Host) WriteFile(path string, mode fs.FileMode, owner string, data io.Reader) error {
	full := h.Path(path)
	dir := filepath.Dir(full)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer h.writing.lock(path)()
	unfinished := h.Path(Temporary(path))
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := fill(h, tmp, mode, owner, data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), full)
}

func fill(h *Host, f *os.File, mode fs.FileMode, owner string, data io.Reader) error {
	if _, err := io.Copy(f, data); err != nil {
		return err
	}
	if err := f.Chmod(mode.Perm()); err != nil {
		return err
	}
	if err := chown(h, f.Name(), owner); err != nil {
		return err
	}
	return f.Sync()
}

// ids looks a user up. Owners are given by name because system users get
// whatever number is free on each host.
func ids(h *Host, owner string) (uid, gid int, known bool, err error) {
	if owner == "" {
		return os.Getuid(), os.Getgid(), true, nil
	}
	u, known, err := h.User(owner)
	if err != nil || !known {
		return 0, 0, false, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, false, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, true, err
}

func chown(h *Host, path, owner string) error {
	uid, gid, known, err := ids(h, owner)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("chown %s: no user %s", path, owner)
	}
	return os.Lchown(path, uid, gid)
}
