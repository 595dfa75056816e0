// SPDX-License-Identifier: Apache-2.0

// Package atomicfile writes files that have their names only when they are
// complete, so that a cut at any moment leaves either the old file or the new.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// prefix begins the names of unfinished files; see IsUnfinished.
const prefix = ".part-"

// File is a file without its name yet.
type File struct{ *os.File }

// Create begins a file that will be in dir.
func Create(dir string) (File, error) {
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return File{}, fmt.Errorf("begin a file in %s: %w", dir, err)
	}
	return File{f}, nil
}

// Commit finishes the file under path, in the directory that Create was given.
func (f File) Commit(path string, mode fs.FileMode) error {
	err := errors.Join(f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("finish %s: %w", path, err)
	}
	return nil
}

// Discard removes the file if it was not committed. It is for defer.
func (f File) Discard() {
	f.Close()
	os.Remove(f.Name())
}

// Write replaces path, whole, readable by all.
func Write(path string, raw []byte) error {
	f, err := Create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(raw); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit(path, 0o644)
}

// IsUnfinished reports whether a file of that name was begun and, if its
// process is gone, never will be finished.
func IsUnfinished(name string) bool { return strings.HasPrefix(filepath.Base(name), prefix) }

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
