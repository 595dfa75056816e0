// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types. The artifact type carries the version of the format: a reader
// refuses a bundle of another one instead of guessing.
const (
	artifactType = "application/vnd.muster.artifact.v1"
	fileType     = "application/vnd.muster.file.v1+zstd"
	emptyType    = "application/vnd.oci.empty.v1+json"
)

// Annotation keys. Those with a key of their own in the OCI image
// specification use it.
const (
	keyName      = "org.opencontainers.image.title"
	keyVersion   = "org.opencontainers.image.version"
	keyLicense   = "org.opencontainers.image.licenses"
	keyModule    = "org.opencontainers.image.source"
	keyRef       = "org.opencontainers.image.ref.name"
	keyKind      = "io.github.muster-project.kind"
	keyGroup     = "io.github.muster-project.group"
	keyToolchain = "io.github.muster-project.toolchain"
	keyMode      = "io.github.muster-project.mode"
	keySHA256    = "io.github.muster-project.content.sha256"
	keySize      = "io.github.muster-project.content.size"
)

// emptyConfig is the blob the OCI image specification reserves for manifests
// that have no configuration.
const emptyConfig = "{}"

// layoutFile is the whole oci-layout file.
const layoutFile = `{"imageLayoutVersion":"1.0.0"}` + "\n"

// EncodeManifest renders an artifact as its OCI manifest: the same bytes for
// the same artifact. Its error is that of an artifact no manifest can hold.
func EncodeManifest(a Artifact) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  artifactType,
		Config:        v1.Descriptor{MediaType: emptyType, Size: int64(len(emptyConfig)), Digest: sum([]byte(emptyConfig))},
		Annotations: map[string]string{
			keyName: a.Name, keyVersion: a.Version, keyKind: string(a.Kind), keyGroup: a.Group,
			keyLicense: a.License, keyModule: a.Module, keyToolchain: a.Toolchain,
		},
	}
	if a.Kind == Image {
		m.Annotations[keyRef] = a.Ref
	}
	files := slices.SortedFunc(slices.Values(a.Files), func(x, y File) int { return cmp.Compare(x.Name, y.Name) })
	for _, f := range files {
		m.Layers = append(m.Layers, encodeFile(f))
	}
	return encodeJSON(m)
}

func encodeFile(f File) v1.Descriptor {
	return v1.Descriptor{
		MediaType: fileType,
		Size:      f.BlobSize,
		Digest:    v1.Hash{Algorithm: "sha256", Hex: f.Blob},
		Annotations: map[string]string{
			keyName:   f.Name,
			keyMode:   fmt.Sprintf("%04o", f.Mode.Perm()),
			keySHA256: f.SHA256,
			keySize:   strconv.FormatInt(f.Size, 10),
		},
	}
}

// EncodeIndex renders the index of the artifacts of a bundle, in any order.
func EncodeIndex(artifacts []Artifact) ([]byte, error) {
	index := v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		ArtifactType:  artifactType,
		Manifests:     []v1.Descriptor{},
	}
	last := ""
	for _, a := range sorted(artifacts) {
		if a.Name == last {
			return nil, fmt.Errorf("artifact %q: twice in one bundle", a.Name)
		}
		last = a.Name
		raw, err := EncodeManifest(a)
		if err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType:    types.OCIManifestSchema1,
			ArtifactType: artifactType,
			Size:         int64(len(raw)),
			Digest:       sum(raw),
			Annotations:  map[string]string{keyName: a.Name},
		})
	}
	return encodeJSON(index)
}

// encodeJSON indents: a person may well look into a bundle.
func encodeJSON[T v1.Manifest | v1.IndexManifest](v T) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, fmt.Errorf("render an OCI manifest: %w", err)
	}
	return append(raw, '\n'), nil
}

func sorted(artifacts []Artifact) []Artifact {
	return slices.SortedFunc(slices.Values(artifacts), func(x, y Artifact) int { return cmp.Compare(x.Name, y.Name) })
}
