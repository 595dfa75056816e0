// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goBuild builds programs from one Go module with pinned requirements.
type goBuild struct {
	// dir is the module, relative to the source tree: a folder of
	// bundle/modules, or "." for muster itself.
	dir      string
	programs []program
	tags     []string
	set      []string // "import/path.variable=value", for the linker
	// static links C code in, statically: the hosts' libc is none of our business.
	static bool
	needs  []tool // beside Go and, if static, a C compiler
}

type program struct {
	name string // of the file
	pkg  string // import path, or ./path in the module
}

func (g goBuild) tools() []tool {
	all := append([]tool{goTool()}, g.needs...)
	if g.static {
		all = append(all, ccTools()...)
	}
	return all
}

func (g goBuild) toolchain(w *workshop) string {
	if g.static {
		return w.goVersion + ", " + w.ccVersion
	}
	return w.goVersion
}

// args are the arguments of `go build`, up to where the result goes.
func (g goBuild) args() []string {
	ld := []string{"-s", "-w", "-buildid="}
	for _, s := range g.set {
		ld = append(ld, "-X", s)
	}
	if g.static {
		// The linker of gcc would add an identifier of its own to the file.
		ld = append(ld, "-linkmode", "external", "-extldflags", "'-static -Wl,--build-id=none'")
	}
	return []string{"build", "-trimpath", "-buildvcs=false", "-tags=" + strings.Join(g.tags, ","), "-ldflags=" + strings.Join(ld, " ")}
}

func (g goBuild) make(ctx context.Context, w *workshop, dir string) error {
	for _, p := range g.programs {
		args := append(g.args(), "-o", filepath.Join(dir, p.name), p.pkg)
		if _, err := w.output(ctx, w.goEnv(g.static), filepath.Join(w.source, g.dir), "go", args...); err != nil {
			return err
		}
	}
	return nil
}

func (g goBuild) inputs(ctx context.Context, w *workshop) (string, error) {
	if w.goVersion == "" {
		return "", errors.New("go is not installed, or not in PATH: install Go 1.26 or newer")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%q\n%q\n", w.goVersion, g.programs, g.args(), w.goEnv(g.static)[:8])
	if g.static {
		fmt.Fprintln(h, w.ccVersion)
	}
	for _, t := range g.needs {
		if t.pkgConfig != "" {
			// A library that is not there is reported when it is needed.
			version, err := w.output(ctx, nil, w.source, "pkg-config", "--modversion", t.pkgConfig)
			fmt.Fprintln(h, t.pkgConfig, version, err == nil)
		}
	}
	hashFiles := hashModule
	if g.dir == "." {
		hashFiles = hashTree
	}
	if err := hashFiles(ctx, w, g, h); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// hashModule hashes a module under bundle/modules. go.sum pins all that is not
// in its folder, so the folder is everything.
func hashModule(_ context.Context, w *workshop, g goBuild, h io.Writer) error {
	root := filepath.Join(w.source, g.dir)
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return hashFile(h, rel, path)
	})
}

// listed is what `go list` says about a package.
type listed struct {
	Dir, ImportPath string
	Standard        bool
	Module          *struct {
		Path, Version, Sum string
		Main               bool
	}
	GoFiles, CgoFiles, CFiles, HFiles, SFiles, EmbedFiles []string
}

// hashTree hashes the packages of muster's own tree that g's programs are made
// of, and the versions of the others: an edit rebuilds what it touches only.
func hashTree(ctx context.Context, w *workshop, g goBuild, h io.Writer) error {
	args := []string{"list", "-deps", "-tags=" + strings.Join(g.tags, ","),
		"-json=Dir,ImportPath,Standard,Module,GoFiles,CgoFiles,CFiles,HFiles,SFiles,EmbedFiles", "--"}
	for _, p := range g.programs {
		args = append(args, p.pkg)
	}
	out, err := w.output(ctx, w.goEnv(g.static), w.source, "go", args...)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(out)))
	for dec.More() {
		var p listed
		if err := dec.Decode(&p); err != nil {
			return fmt.Errorf("read what go list says: %w", err)
		}
		if err := p.hash(h); err != nil {
			return err
		}
	}
	return nil
}

func (p listed) hash(h io.Writer) error {
	switch {
	case p.Standard:
		return nil // the version of Go says it all
	case p.Module != nil && !p.Module.Main:
		_, err := fmt.Fprintln(h, p.ImportPath, p.Module.Path, p.Module.Version, p.Module.Sum)
		return err
	}
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.CFiles, p.HFiles, p.SFiles, p.EmbedFiles) {
		if err := hashFile(h, p.ImportPath+"/"+name, filepath.Join(p.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// hashFile adds a file under a name that does not depend on where the tree is.
func hashFile(h io.Writer, name, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("hash a source: %w", err)
	}
	_, err = fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(raw))
	return err
}
