// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/muster-project/muster/e2e/program"
)

// work is what is needed to run the tests.
type work struct {
	say    func(format string, args ...any)
	dir    string // temporary
	cache  string // below the user's cache directory
	muster string // the program
	bundle string // its version, which says what is in it
	suite  suite
	dual   bool // the cluster has IPv4 and IPv6
}

func (w *work) kubectl() string { return filepath.Join(w.dir, "kubectl") }

// resultsDir is named after what was tested and what tested it: results of
// other programs are not mixed in.
func (w *work) resultsDir() string {
	name := "run-" + strings.ReplaceAll(w.bundle, "+", "-") + "-" + w.suite.key
	if w.dual {
		name += "-dual"
	}
	return filepath.Join(w.cache, name)
}

// keepRuns is how many sets of results stay in the cache.
const keepRuns = 5

// prepare builds muster, the bundle and the tests from the source tree around
// the working directory.
func prepare(ctx context.Context, dual bool, say func(string, ...any)) (_ *work, cleanUp func(), err error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return nil, nil, fmt.Errorf("find a place for the tests: %w", err)
	}
	dir, err := os.MkdirTemp("", "muster-conformance-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	w := &work{say: say, dual: dual, dir: dir, cache: filepath.Join(caches, "muster", "conformance"), muster: filepath.Join(dir, "muster")}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, nil, err
	}
	if w.suite, err = openSuite(ctx, w.cache, filepath.Join(root, "e2e", "conformance", "suite"), say); err != nil {
		return nil, nil, err
	}
	if err := w.buildMuster(ctx, root); err != nil {
		return nil, nil, err
	}
	return w, remove, prune(w.cache, "run-*", keepRuns)
}

func (w *work) buildMuster(ctx context.Context, root string) error {
	w.say("building muster and the bundle")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", w.muster, "./cmd/muster")
	build.Dir = root
	if _, err := program.Output(build); err != nil {
		return err
	}
	if _, err := program.Output(exec.CommandContext(ctx, w.muster, "bundle", "build")); err != nil {
		return err
	}
	if _, err := program.Output(exec.CommandContext(ctx, w.muster, "bundle", "extract", "kubectl", "--to", w.dir)); err != nil {
		return err
	}
	listed, err := program.Output(exec.CommandContext(ctx, w.muster, "bundle", "list", "-o", "json"))
	if err != nil {
		return err
	}
	var list struct{ Version string }
	if err := json.Unmarshal(listed, &list); err != nil {
		return fmt.Errorf("read the bundle's list: %w", err)
	}
	w.bundle = list.Version
	return nil
}

// moduleRoot is the top of the source tree around the working directory.
func moduleRoot(ctx context.Context) (string, error) {
	mod, err := program.Output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err != nil {
		return "", err
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if _, err := os.Stat(filepath.Join(root, "e2e", "conformance", "suite")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find muster's source tree: %s is not it; run this inside the tree", root)
	} else if err != nil {
		return "", err
	}
	return root, nil
}
