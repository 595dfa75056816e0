// SPDX-License-Identifier: Apache-2.0

package bundle

import "io/fs"

// Kind says what the files of an artifact are.
type Kind string

// The kinds of artifacts.
const (
	// Binary is one or more programs, to be installed under their names.
	Binary Kind = "binary"
	// Image is one container image, as one tar that `ctr images import` takes.
	Image Kind = "image"
)

// The groups of artifacts.
const (
	// Core is what a cluster is made of.
	Core = "core"
	// Test is what end-to-end tests and the sample Deployment run.
	Test = "test"
	// Peer is what muster is measured against; it is only built on demand.
	Peer = "peer"
)

// Artifact is one thing that gets installed, and where it is from.
type Artifact struct {
	Name    string // unique in its bundle, such as "containerd"
	Version string // as its project writes it, without a leading v
	Kind    Kind
	Group   string // Core, Test or Peer

	License   string // SPDX expression
	Module    string // the Go module and version, or the place, it was made from
	Toolchain string // what compiled it, such as "go1.26.8"; empty if muster did not

	Ref   string // image reference; images only
	Files []File // sorted by name; one for an image
}

// File is one file of an artifact.
type File struct {
	Name   string      // base name: no directory
	Mode   fs.FileMode // permission bits only
	SHA256 string      // of the content; 64 hex digits
	Size   int64       // of the content, in bytes

	Blob     string // sha256 of the stored zstd blob; 64 hex digits
	BlobSize int64  // in bytes
}

// Size is the size of an artifact's files, in bytes, once they are unpacked.
func (a Artifact) Size() int64 {
	var n int64
	for _, f := range a.Files {
		n += f.Size
	}
	return n
}

// BlobSize is the size of an artifact as it is stored and sent, in bytes.
func (a Artifact) BlobSize() int64 {
	var n int64
	for _, f := range a.Files {
		n += f.BlobSize
	}
	return n
}

// File finds a file by its name.
func (a Artifact) File(name string) (File, bool) {
	for _, f := range a.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}
