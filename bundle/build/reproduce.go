// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/muster-project/muster/bundle"
)

// Repeat is one file that was made twice.
type Repeat struct {
	Artifact, File string
	First, Second  string // sha256 of the stored blob, in hex; empty if that build has no such file
}

// CheckReproducible makes artifacts twice: once here, and once from a copy of the
// source tree at another path, with an empty Go build cache. Both times the
// cache of artifacts is empty too. What depends on time, place or what was built
// before differs. Options.Out, Cache and GoCache are not used.
func CheckReproducible(ctx context.Context, o Options, names []string) ([]Repeat, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return checkAll(ctx, o, names, catalogue())
}

// checkAll is CheckReproducible with a catalogue of the caller's.
func checkAll(ctx context.Context, o Options, names []string, all []recipe) ([]Repeat, error) {
	o.Only = names
	w := &workshop{cache: o.Cache}
	dir, remove, err := w.temp()
	if err != nil {
		return nil, err
	}
	defer remove()
	first, second := o, o
	first.Cache, first.Out = filepath.Join(dir, "first-cache"), filepath.Join(dir, "first")
	second.Cache, second.Out = filepath.Join(dir, "second-cache"), filepath.Join(dir, "second")
	second.GoCache = filepath.Join(dir, "second-go-cache")
	second.Source = filepath.Join(dir, "another", "source", "tree")
	if err := copyTree(o.Source, second.Source); err != nil {
		return nil, err
	}
	a, err := buildAll(ctx, first, all)
	if err != nil {
		return nil, err
	}
	b, err := buildAll(ctx, second, all)
	if err != nil {
		return nil, err
	}
	return compare(a, b), nil
}

func compare(a, b *bundle.Bundle) []Repeat {
	var repeats []Repeat
	index := map[[2]string]int{}
	for _, art := range a.Artifacts() {
		for _, f := range art.Files {
			index[[2]string{art.Name, f.Name}] = len(repeats)
			repeats = append(repeats, Repeat{Artifact: art.Name, File: f.Name, First: f.Blob})
		}
	}
	for _, art := range b.Artifacts() {
		for _, f := range art.Files {
			if i, ok := index[[2]string{art.Name, f.Name}]; ok {
				repeats[i].Second = f.Blob
			} else {
				repeats = append(repeats, Repeat{Artifact: art.Name, File: f.Name, Second: f.Blob})
			}
		}
	}
	return repeats
}

// copyTree copies the regular files of a source tree, without hidden ones: what
// git and editors keep there is not source.
func copyTree(from, to string) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case rel != "." && entry.Name()[0] == '.' && entry.IsDir():
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		raw, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), raw, 0o644))
	})
	if err != nil {
		return fmt.Errorf("copy the source tree: %w", err)
	}
	return nil
}
