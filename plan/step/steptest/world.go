// SPDX-License-Identifier: Apache-2.0

// Package steptest is a host in memory and in a temporary folder: everything
// that steps ask or change, with fakes that remember what was done and fail
// the test on a call they do not know.
package steptest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-project/muster/plan/step"
)

// World is a host and everything around it that a step may ask.
type World struct {
	Host     *step.Host
	Units    *Units
	Exec     *Exec
	Operator *Operator
	API      *API
	Users    *Users
	// Clock is what the host's clock says.
	Clock time.Time
	// T is the test that the world belongs to.
	T testing.TB
}

// New makes an empty host that was booted an hour ago.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{T: t, Clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.Users = &Users{known: map[string]bool{}}
	w.Host = &step.Host{Root: t.TempDir(), Now: func() time.Time { return w.Clock }, Lookup: w.Users.lookup}
	w.Units = newUnits(w)
	w.Exec = newExec(w)
	w.Operator = newOperator(w)
	w.API = newAPI(t)
	w.Host.Units, w.Host.Exec, w.Host.Operator, w.Host.API = w.Units, w.Exec, w.Operator, w.API
	w.Boot(time.Now().Add(-time.Hour))
	w.Write("/proc/self/mountinfo", 0o444, "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
	return w
}

// Boot is a reboot at the given time: /run is empty and enabled units run.
func (w *World) Boot(at time.Time) {
	w.T.Helper()
	if err := os.RemoveAll(w.Host.Path("/run")); err != nil {
		w.T.Fatal(err)
	}
	w.Write("/proc/stat", 0o444, fmt.Sprintf("cpu  1 2 3\nbtime %d\nprocesses 9\n", at.Unix()))
	w.Units.boot()
}

// Write makes a file and its parents.
func (w *World) Write(path string, mode fs.FileMode, data string) {
	w.T.Helper()
	if err := w.Host.WriteFile(path, mode, "", strings.NewReader(data)); err != nil {
		w.T.Fatal(err)
	}
}

// Read returns a file's content.
func (w *World) Read(path string) string {
	w.T.Helper()
	data, err := os.ReadFile(w.Host.Path(path))
	if err != nil {
		w.T.Fatal(err)
	}
	return string(data)
}

// Exists reports whether anything has the name.
func (w *World) Exists(path string) bool {
	_, err := os.Lstat(w.Host.Path(path))
	return err == nil
}

// Remove removes a path with everything below it.
func (w *World) Remove(path string) {
	w.T.Helper()
	if err := os.RemoveAll(w.Host.Path(path)); err != nil {
		w.T.Fatal(err)
	}
}

// Chmod changes a mode.
func (w *World) Chmod(path string, mode fs.FileMode) {
	w.T.Helper()
	if err := os.Chmod(w.Host.Path(path), mode); err != nil {
		w.T.Fatal(err)
	}
}

// Chown gives a path to a user that nobody is, where the test may do that.
func (w *World) Chown(path string) {
	w.T.Helper()
	if os.Getuid() != 0 {
		w.T.Skip("only root can give files away")
	}
	if err := os.Lchown(w.Host.Path(path), 4242, 4242); err != nil {
		w.T.Fatal(err)
	}
}

// Age sets a path's time of change.
func (w *World) Age(path string, at time.Time) {
	w.T.Helper()
	if err := os.Chtimes(w.Host.Path(path), at, at); err != nil {
		w.T.Fatal(err)
	}
}

// Unreadable makes a folder one that not even root can look into: a link to
// itself. Questions about what is in it get no answer.
func (w *World) Unreadable(dir string) {
	w.T.Helper()
	w.Remove(dir)
	if err := os.MkdirAll(filepath.Dir(w.Host.Path(dir)), 0o755); err != nil {
		w.T.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(dir), w.Host.Path(dir)); err != nil {
		w.T.Fatal(err)
	}
}

// Tree describes everything below Root but what skip names, one path a line:
// mode, owner, and content. Two trees that read alike are alike.
func (w *World) Tree(skip ...string) string {
	w.T.Helper()
	var lines strings.Builder
	err := filepath.WalkDir(w.Host.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, w.Host.Root), "/")
		for _, s := range skip {
			if name == s && d.IsDir() {
				return fs.SkipDir
			} else if name == s {
				return nil
			}
		}
		line, err := describe(path, d)
		fmt.Fprintf(&lines, "%s %s\n", name, line)
		return err
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return lines.String()
}

func describe(path string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return line + " -> " + target, err
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		return fmt.Sprintf("%s %d bytes %.8x", line, len(data), sha256.Sum256(data)), err
	}
	return line, nil
}
