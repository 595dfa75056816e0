// SPDX-License-Identifier: Apache-2.0

// Package addons is what is applied to the API server: the objects that a
// cluster needs beyond its programs, each as one YAML document, in the order
// to apply them in.
//
// Every add-on says its version, its images and the objects it owns, so that
// it can be listed, upgraded and removed. Documents are fixed files with a
// small typed input; values enter them quoted, never spliced.
package addons

// Object is one API object.
type Object struct {
	APIVersion string
	Kind       string
	Namespace  string // "" for cluster-scoped objects
	Name       string
	YAML       []byte // one document, for a server-side apply
}

// Addon is a set of objects that come and go together.
type Addon struct {
	Name    string
	Version string   // of what runs, "" for objects without a program
	Images  []string // references that nodes need
	Objects []Object // in apply order; removal goes backwards
}
