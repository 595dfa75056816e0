// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// check returns every reason why a is not an artifact a bundle can hold.
func (a Artifact) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("artifact %q: "+format, append([]any{a.Name}, args...)...))
	}
	if !isBaseName(a.Name) {
		bad("name: want a plain file name")
	}
	if a.Version == "" {
		bad("version: missing")
	}
	if !slices.Contains([]Kind{Binary, Image}, a.Kind) {
		bad("kind: %q: not %s or %s", a.Kind, Binary, Image)
	}
	if !slices.Contains([]string{Core, Test, Peer}, a.Group) {
		bad("group: %q: not %s, %s or %s", a.Group, Core, Test, Peer)
	}
	if (a.Ref != "") != (a.Kind == Image) {
		bad("image reference: %q: every image has one, and nothing else", a.Ref)
	}
	if len(a.Files) == 0 || a.Kind == Image && len(a.Files) != 1 {
		bad("%d files: want one for an image, one or more for programs", len(a.Files))
	}
	seen := map[string]bool{}
	for _, f := range a.Files {
		if seen[f.Name] {
			bad("file %q: twice", f.Name)
		}
		seen[f.Name] = true
		for _, reason := range f.faults() {
			bad("file %q: %s", f.Name, reason)
		}
	}
	return errors.Join(errs...)
}

func (f File) faults() []string {
	var reasons []string
	if !isBaseName(f.Name) {
		reasons = append(reasons, "name: want a plain file name")
	}
	if f.Mode&^fs.ModePerm != 0 {
		reasons = append(reasons, fmt.Sprintf("mode: %v: only permission bits are kept", f.Mode))
	}
	if !isSHA256(f.SHA256) {
		reasons = append(reasons, fmt.Sprintf("sha256 of the content: %q: want 64 lower-case hex digits", f.SHA256))
	}
	if !isSHA256(f.Blob) {
		reasons = append(reasons, fmt.Sprintf("digest of the blob: %q: want 64 lower-case hex digits", f.Blob))
	}
	if f.Size < 0 || f.BlobSize <= 0 {
		reasons = append(reasons, fmt.Sprintf("sizes %d and %d: not those of a stored file", f.Size, f.BlobSize))
	}
	return reasons
}

// isBaseName guards the hosts: names end up in paths there.
func isBaseName(s string) bool {
	return s != "" && s != "." && s != ".." && filepath.Base(s) == s && !containsControl(s)
}

func containsControl(s string) bool {
	return slices.ContainsFunc([]rune(s), func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\\' || r == utf8.RuneError
	})
}

func isSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == s
}

func sum(raw []byte) v1.Hash {
	h := sha256.Sum256(raw)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h[:])}
}
