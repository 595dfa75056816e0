// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// errNotCanonical is the error of an index or a manifest that says more than,
// or something else than, what was read from it.
var errNotCanonical = errors.New("not what muster writes: changed by hand, damaged, or from another version of muster; build the bundle again")

// DecodeManifest is the inverse of EncodeManifest, and refuses what that would
// not have rendered, byte for byte.
func DecodeManifest(raw []byte) (Artifact, error) {
	var m v1.Manifest
	if err := decodeJSON(raw, &m); err != nil {
		return Artifact{}, err
	}
	a := Artifact{
		Name:      m.Annotations[keyName],
		Version:   m.Annotations[keyVersion],
		Kind:      Kind(m.Annotations[keyKind]),
		Group:     m.Annotations[keyGroup],
		License:   m.Annotations[keyLicense],
		Module:    m.Annotations[keyModule],
		Toolchain: m.Annotations[keyToolchain],
		Ref:       m.Annotations[keyRef],
	}
	for i, layer := range m.Layers {
		f, err := decodeFile(layer)
		if err != nil {
			return Artifact{}, fmt.Errorf("layers[%d]: %w", i, err)
		}
		a.Files = append(a.Files, f)
	}
	again, err := EncodeManifest(a)
	if err != nil {
		return Artifact{}, err
	}
	if !bytes.Equal(raw, again) {
		return Artifact{}, errNotCanonical
	}
	return a, nil
}

func decodeFile(layer v1.Descriptor) (File, error) {
	mode, err := strconv.ParseUint(layer.Annotations[keyMode], 8, 32)
	if err != nil {
		return File{}, fmt.Errorf("annotation %s: %w", keyMode, err)
	}
	size, err := strconv.ParseInt(layer.Annotations[keySize], 10, 64)
	if err != nil {
		return File{}, fmt.Errorf("annotation %s: %w", keySize, err)
	}
	return File{
		Name:     layer.Annotations[keyName],
		Mode:     fs.FileMode(mode),
		SHA256:   layer.Annotations[keySHA256],
		Size:     size,
		Blob:     layer.Digest.Hex,
		BlobSize: layer.Size,
	}, nil
}

// decodeIndex reads where the manifests are. Whether the index says anything
// else is known when they have been read: see Open.
func decodeIndex(raw []byte) ([]v1.Descriptor, error) {
	var index v1.IndexManifest
	if err := decodeJSON(raw, &index); err != nil {
		return nil, err
	}
	for i, d := range index.Manifests {
		if d.Digest.Algorithm != "sha256" || !isSHA256(d.Digest.Hex) {
			return nil, fmt.Errorf("manifests[%d].digest: %q: want sha256 and 64 hex digits", i, d.Digest)
		}
	}
	return index.Manifests, nil
}

func decodeJSON[T v1.Manifest | v1.IndexManifest](raw []byte, into *T) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("not the JSON of an OCI image layout: %w", err)
	}
	return nil
}
