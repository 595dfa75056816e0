// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image says what is in a container image. Its layers are not compressed: the
// bundle compresses the whole tar, better and once.
type image struct {
	Ref    string
	Layers []layer // lowest first; a file that several images share deserves its own
	Config v1.Config
}

type layer []entry

// entry is one path of a layer: a made file, a link or a directory. Directories
// above it need no entry.
type entry struct {
	Path string      // absolute
	Mode fs.FileMode // permission bits and fs.ModeSticky; 0755 if zero
	File string      // name of the made file that goes there; or
	Link string      // target of a symbolic link; or neither, for a directory
	Text string      // content, for small files that no maker makes
	Tree string      // name of the made directory whose content goes below Path
}

// write makes the image of the files in dir, for an architecture as Go names it,
// and writes it to to, as a tar that `ctr images import` and `docker load` take.
// Nothing in it depends on time or place.
func (img image) write(arch, dir, to string) error {
	config := &v1.ConfigFile{OS: "linux", Architecture: arch, Config: img.Config, RootFS: v1.RootFS{Type: "layers"}}
	built, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return fmt.Errorf("image %s: set its configuration: %w", img.Ref, err)
	}
	for i, l := range img.Layers {
		raw, err := l.tar(dir)
		if err != nil {
			return fmt.Errorf("image %s: layer %d: %w", img.Ref, i, err)
		}
		if built, err = mutate.AppendLayers(built, static.NewLayer(raw, types.DockerUncompressedLayer)); err != nil {
			return fmt.Errorf("image %s: layer %d: %w", img.Ref, i, err)
		}
	}
	tag, err := name.NewTag(img.Ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	if err := tarball.WriteToFile(to, tag, built); err != nil {
		return fmt.Errorf("image %s: write %s: %w", img.Ref, to, err)
	}
	return nil
}

// tar renders a layer, entries sorted, each with the directories above it.
func (l layer) tar(dir string) ([]byte, error) {
	expanded, err := l.expand(dir)
	if err != nil {
		return nil, err
	}
	byPath := map[string]entry{}
	for _, e := range expanded {
		for up := path.Dir(e.Path); up != "/"; up = path.Dir(up) {
			if _, ok := byPath[up]; !ok {
				byPath[up] = entry{Path: up}
			}
		}
		byPath[e.Path] = e
	}
	entries := make([]entry, 0, len(byPath))
	for _, e := range byPath {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(x, y entry) int { return cmp.Compare(x.Path, y.Path) })

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if err := e.tar(w, dir); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// expand replaces each tree by what is in it.
func (l layer) expand(dir string) (layer, error) {
	var all layer
	for _, e := range l {
		if e.Tree == "" {
			all = append(all, e)
			continue
		}
		err := filepath.WalkDir(filepath.Join(dir, e.Tree), func(p string, found fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			one, err := e.below(dir, p, found)
			if err == nil && one.Path != "/" {
				all = append(all, one)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("tree %s: %w", e.Tree, err)
		}
	}
	return all, nil
}

// below is the entry of something found in the tree e.
func (e entry) below(dir, found string, d fs.DirEntry) (entry, error) {
	rel, err := filepath.Rel(filepath.Join(dir, e.Tree), found)
	if err != nil {
		return entry{}, err
	}
	info, err := d.Info()
	if err != nil {
		return entry{}, err
	}
	one := entry{Path: path.Join(e.Path, filepath.ToSlash(rel)), Mode: info.Mode() & (fs.ModePerm | fs.ModeSticky)}
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		one.Link, err = os.Readlink(found)
	case d.Type().IsRegular():
		one.File, err = filepath.Rel(dir, found)
	case !d.IsDir():
		err = fmt.Errorf("%s: %v does not belong into an image", found, d.Type())
	}
	return one, err
}

func (e entry) tar(w *tar.Writer, dir string) error {
	h := &tar.Header{Name: e.Path[1:], Mode: 0o755, Format: tar.FormatPAX}
	if e.Mode != 0 {
		h.Mode = int64(e.Mode.Perm())
	}
	if e.Mode&fs.ModeSticky != 0 {
		h.Mode |= 0o1000 // what tar calls the sticky bit
	}
	content := []byte(e.Text)
	switch {
	case e.File != "":
		raw, err := os.ReadFile(filepath.Join(dir, e.File))
		if err != nil {
			return err
		}
		content, h.Typeflag = raw, tar.TypeReg
	case e.Text != "":
		h.Typeflag = tar.TypeReg
	case e.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
	default:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
