// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/muster-project/muster/bundle"
)

// yard is a source tree, a cache and a bundle of their own for one test.
type yard struct {
	options Options
	mu      sync.Mutex
	events  []Event
}

func newYard(t *testing.T) *yard {
	t.Helper()
	dir := t.TempDir()
	y := &yard{}
	y.options = Options{
		Source: filepath.Join(dir, "source"), Cache: filepath.Join(dir, "cache"), Out: filepath.Join(dir, "out"),
		Progress: func(e Event) {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.events = append(y.events, e)
		},
	}
	if err := copyTree("testdata/source", y.options.Source); err != nil {
		t.Fatal(err)
	}
	o, err := y.options.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	y.options = o
	return y
}

// recipes are small ones of every sort.
func recipes() []recipe {
	tiny := goBuild{dir: "bundle/modules/tiny", programs: []program{{"tiny", "."}}, set: []string{"main.version=1.2.3"}}
	return []recipe{
		{name: "tiny", version: "1.2.3", group: bundle.Core, license: "MIT", module: "example.org/tiny@v1.2.3", makers: []maker{tiny}},
		{
			name: "picture", version: "1.2.3", group: bundle.Test, license: "MIT", makers: []maker{tiny},
			image: &image{Ref: "muster.local/tiny:1.2.3", Layers: []layer{{{Path: "/bin/tiny", File: "tiny"}}}, Config: v1.Config{Entrypoint: []string{"/bin/tiny"}}},
		},
		{
			name: "hello", version: "0.1.0", group: bundle.Core, license: "MIT", own: true,
			makers: []maker{goBuild{dir: ".", programs: []program{{"hello", "./cmd/hello"}}}},
		},
		{
			name: "broken", version: "1", group: bundle.Peer, license: "MIT",
			makers: []maker{goBuild{dir: "bundle/modules/broken", programs: []program{{"broken", "."}}}},
		},
	}
}

func (y *yard) build(t *testing.T, all []recipe) (*bundle.Bundle, error) {
	t.Helper()
	y.events = nil
	return buildAll(t.Context(), y.options, all)
}

// mustBuild builds, and checks that what came out is whole.
func (y *yard) mustBuild(t *testing.T, all []recipe) *bundle.Bundle {
	t.Helper()
	b, err := y.build(t, all)
	if err != nil {
		t.Fatal(err)
	}
	if faults := b.Verify(t.Context()); len(faults) > 0 {
		t.Fatalf("faults in a new bundle: %v", faults)
	}
	return b
}

// told is what happened, as "artifact stage", without repetitions.
func (y *yard) told() string {
	var all []string
	for _, e := range y.events {
		all = append(all, strings.TrimSpace(e.Artifact+" "+string(e.Stage)))
	}
	return strings.Join(slices.Compact(all), ", ")
}

func (y *yard) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(y.options.Source, path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// content reads a file of a bundle.
func content(t *testing.T, b *bundle.Bundle, artifact, file string) []byte {
	t.Helper()
	a, err := b.Lookup(artifact)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := a.File(file)
	if !ok {
		t.Fatalf("%s has no %s: %v", artifact, file, a.Files)
	}
	r, err := b.OpenFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// testMaker is a maker for what the real ones cannot show.
type testMaker struct {
	in   string
	do   func(ctx context.Context, dir string) error
	need []tool
}

func (m testMaker) inputs(context.Context, *workshop) (string, error) { return m.in, nil }
func (m testMaker) tools() []tool                                     { return m.need }
func (m testMaker) toolchain(*workshop) string                        { return "" }
func (m testMaker) make(ctx context.Context, _ *workshop, dir string) error {
	if m.do == nil {
		return os.WriteFile(filepath.Join(dir, "file"), []byte(m.in), 0o600)
	}
	return m.do(ctx, dir)
}

// fileRecipe makes one file of known content.
func fileRecipe(name, text string) recipe {
	return recipe{name: name, version: "1", group: bundle.Core, license: "MIT", makers: []maker{testMaker{in: text}}}
}
