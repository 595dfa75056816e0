// SPDX-License-Identifier: Apache-2.0

// Package build makes bundles.
//
// What a bundle holds is a list of recipes (catalogue.go). A recipe has makers,
// which make files: from a Go module of their own under bundle/modules, from
// muster's own tree, from C, from Debian packages, or from the release files of
// a project (Options.From). An image recipe then packs its files into one tar.
//
// Every maker can say what its result depends on. The hash of that names the
// artifact in the cache, so an artifact is made again when, and only when,
// something it is made from has changed; and the same inputs give the same
// digests on any machine with the same toolchain (CheckReproducible).
package build
