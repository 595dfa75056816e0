// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/muster-project/muster/bundle/internal/atomicfile"
)

// Write makes dir the bundle of artifacts, whose blobs are in it already, and
// removes the blobs that no artifact needs. Its index is replaced last and
// whole: until then dir is the bundle it was. The caller sees to it that nobody
// else writes there.
func Write(dir string, artifacts []Artifact) error {
	index, err := EncodeIndex(artifacts)
	if err != nil {
		return fmt.Errorf("write bundle %s: %w", dir, err)
	}
	needed := map[string]bool{}
	put := func(raw []byte) error {
		hex := sum(raw).Hex
		needed[hex] = true
		return atomicfile.Write(blobPath(dir, hex), raw)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	errs := []error{put([]byte(emptyConfig))}
	for _, a := range artifacts {
		raw, err := EncodeManifest(a)
		errs = append(errs, err, put(raw))
		for _, f := range a.Files {
			needed[f.Blob] = true
			_, err := os.Stat(blobPath(dir, f.Blob))
			errs = append(errs, err)
		}
	}
	errs = append(errs, atomicfile.Write(filepath.Join(dir, "oci-layout"), []byte(layoutFile)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write bundle %s: %w", dir, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "index.json"), index); err != nil {
		return fmt.Errorf("write bundle %s: %w", dir, err)
	}
	return removeUnneeded(dir, needed)
}

func removeUnneeded(dir string, needed map[string]bool) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if err != nil {
		return fmt.Errorf("remove old blobs: %w", err)
	}
	for _, e := range entries {
		if !needed[e.Name()] && (isSHA256(e.Name()) || atomicfile.IsUnfinished(e.Name())) {
			if err := os.Remove(filepath.Join(blobs, e.Name())); err != nil {
				return fmt.Errorf("remove old blobs: %w", err)
			}
		}
	}
	return nil
}
