// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/bundle"
)

// Kubernetes is the version of Kubernetes that is built when nothing else is
// said.
const Kubernetes = "1.36.3"

// Options say what to build, from what, and where to.
type Options struct {
	// Source is the root of muster's source tree. Empty: the tree that holds
	// the working directory.
	Source string
	// Cache keeps finished artifacts. Empty: muster/bundle in the user's cache
	// directory.
	Cache string
	// Out is the bundle's directory. A bundle that is already there is
	// brought up to date. Empty: DefaultOut.
	Out string
	// Groups are the groups to build. Empty: bundle.Core and bundle.Test.
	Groups []string
	// Only are names of artifacts: if there are any, they alone are built,
	// whatever their group.
	Only []string
	// From is a directory, or an http(s) URL, of release files to take instead
	// of building; docs/bundle.md has its layout. Empty: build everything.
	From string
	// Client fetches release files. Nil: a client that gives up on a server
	// that does not begin to answer.
	Client *http.Client
	// GoCache is the Go build cache. Empty: the user's own.
	GoCache string
	// Progress is told what happens, from one goroutine at a time. Nil: nobody is.
	Progress func(Event)
}

// Stage is how far an artifact is.
type Stage string

// The stages.
const (
	Waiting  Stage = "waiting"  // another process makes the same artifact
	Making   Stage = "making"   // told again now and then: some take minutes
	Made     Stage = "made"     // made, and now in the cache
	Cached   Stage = "cached"   // nothing it is made from has changed
	Repaired Stage = "repaired" // the old bundle was unusable; Reason says why
)

// Event is one thing that happened while a bundle was built.
type Event struct {
	Artifact, Version string
	Stage             Stage
	Elapsed           time.Duration // since this artifact was begun
	Size, BlobSize    int64         // bytes; with Made and Cached
	Reason            string
}

// answerWithin is how long a server of release files may take to begin its
// answer. The answer itself may take as long as it needs.
const answerWithin = 30 * time.Second

// DefaultOut is where the bundle of a Kubernetes version is when nobody says
// otherwise: $MUSTER_BUNDLE, or below the user's cache directory.
func DefaultOut(kubernetes string) (string, error) {
	if dir := os.Getenv("MUSTER_BUNDLE"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the bundle: %w; set MUSTER_BUNDLE", err)
	}
	return filepath.Join(cache, "muster", "bundles", kubernetes), nil
}

// withDefaults fills in what the caller left out.
func (o Options) withDefaults() (Options, error) {
	if o.Cache == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("find a place for the cache of artifacts: %w", err)
		}
		o.Cache = filepath.Join(cache, "muster", "bundle")
	}
	if o.Out == "" {
		out, err := DefaultOut(Kubernetes)
		if err != nil {
			return o, err
		}
		o.Out = out
	}
	if o.Source == "" {
		source, err := findSource()
		if err != nil {
			return o, err
		}
		o.Source = source
	}
	if len(o.Groups) == 0 {
		o.Groups = []string{bundle.Core, bundle.Test}
	}
	for _, g := range o.Groups {
		if !slices.Contains([]string{bundle.Core, bundle.Test, bundle.Peer}, g) {
			return o, fmt.Errorf("group %q: there are %s, %s and %s", g, bundle.Core, bundle.Test, bundle.Peer)
		}
	}
	if o.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = answerWithin
		o.Client = &http.Client{Transport: transport}
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	return o, nil
}

// moduleLine is how muster's go.mod begins, which is how its tree is known.
const moduleLine = "module github.com/muster-project/muster\n"

// findSource walks up from the working directory to muster's source tree.
func findSource() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find muster's source tree: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find muster's source tree: %w", err)
		}
		if strings.HasPrefix(string(raw), moduleLine) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find muster's source tree: neither %s nor a directory above it is one; run this inside the tree, since artifacts are built from it", start)
		}
	}
}
