// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"io"
	"strings"

	"github.com/muster-project/muster/bundle"
)

// archive is a tar of files for a machine's root folder.
type archive struct{ *tar.Writer }

func newArchive(out io.Writer) *archive { return &archive{tar.NewWriter(out)} }

func (a *archive) close() error { return a.Close() }

// fromBundle adds a file of the bundle, unpacked and checked.
func (a *archive) fromBundle(b *bundle.Bundle, f bundle.File, path string) error {
	content, err := b.OpenFile(f)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := a.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: int64(f.Mode), Size: f.Size}); err != nil {
		return err
	}
	_, err = io.Copy(a, content)
	return err
}

func (a *archive) text(path string, data []byte) error {
	if err := a.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := a.Write(data)
	return err
}

func (a *archive) link(path, target string) error {
	return a.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: strings.TrimPrefix(path, "/"), Linkname: target})
}
