// SPDX-License-Identifier: Apache-2.0

// Package bundle reads bundles. A bundle is the directory that holds everything
// muster installs: programs and container images, each with its version,
// licence and origin.
//
// On disk it is an OCI image layout, so that any OCI tool can copy it:
//
//	DIR/oci-layout
//	DIR/index.json           one descriptor per artifact, sorted by name
//	DIR/blobs/sha256/DIGEST  manifests, and files stored as zstd
//
// An artifact is one OCI manifest, and each of its files is one layer of it. What
// the index and the manifests say is a pure function of []Artifact
// (EncodeManifest, EncodeIndex). Reading therefore renders them again and
// compares bytes: there is nothing in them that a reader overlooks.
//
// Making bundles is the job of package bundle/build, which readers do not import.
package bundle
