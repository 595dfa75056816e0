// SPDX-License-Identifier: Apache-2.0

// Package pki is the catalogue of a cluster's authorities and certificates,
// as data, and the little that makes, signs and checks them.
//
// A Request says everything about one certificate. Its key is made on the host
// that uses it and never leaves it: only the output of CSR travels, to a host
// that holds the authority's key, and the output of Sign travels back. The
// signer trusts the Request it was told, not the one it was sent.
//
// Paths are relative to one directory and follow the layout that kubeadm made
// common, so that people and tools find what they expect:
// https://kubernetes.io/docs/setup/best-practices/certificates/
//
// The package runs on hosts, so it imports nothing but the standard library.
package pki
