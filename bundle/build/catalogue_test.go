// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/muster-project/muster/bundle"
)

const tree = "../.."

func TestCatalogue(t *testing.T) {
	var seen []string
	for _, r := range catalogue() {
		if slices.Contains(seen, r.name) {
			t.Errorf("%s: twice", r.name)
		}
		seen = append(seen, r.name)
		if r.version == "" || r.license == "" || r.module == "" || r.diskMiB == 0 || len(r.makers) == 0 {
			t.Errorf("%s: incomplete: %+v", r.name, r)
		}
		if r.image == nil {
			continue
		}
		if _, err := name.NewTag(r.image.Ref, name.StrictValidation); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		if r.group != bundle.Peer && r.image.Ref != "muster.local/"+r.name+":"+r.version {
			t.Errorf("%s: reference %s", r.name, r.image.Ref)
		}
	}
}

// The catalogue names versions because a released muster has no go.mod to look
// into; here they are the same.
func TestCatalogueVersionsArePinned(t *testing.T) {
	for _, r := range catalogue() {
		for _, m := range r.makers {
			g, ok := m.(goBuild)
			if !ok || g.dir == "." {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(tree, g.dir, "go.mod"))
			if err != nil {
				t.Fatal(err)
			}
			module, version, ok := strings.Cut(r.module, "@")
			version, _, _ = strings.Cut(version, " ")
			module = strings.TrimSuffix(module, "/test/images/agnhost")
			if !ok || !strings.Contains(string(raw), module+" "+version) {
				t.Errorf("%s: %s does not require %s %s", r.name, g.dir, module, version)
			}
			for _, p := range g.programs {
				if !strings.HasPrefix(p.pkg, ".") && !strings.Contains(string(raw), p.pkg) {
					t.Errorf("%s: %s has no tool line for %s", r.name, g.dir, p.pkg)
				}
			}
			if _, err := os.Stat(filepath.Join(tree, g.dir, "go.sum")); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
	}
}

// docs/bundle.md tells people how to lay out release files.
func TestReleaseFilesAreDocumented(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join(tree, "docs", "bundle.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range catalogue() {
		if r.release == nil {
			continue
		}
		for _, f := range r.release.files {
			for _, p := range []string{f.path, f.checksum} {
				if p = strings.ReplaceAll(p, runtime.GOARCH, "ARCH"); !strings.Contains(string(docs), p) {
					t.Errorf("%s: docs/bundle.md does not name %s", r.name, p)
				}
			}
		}
	}
}

// Packages is what people are told to install: enough for every recipe.
func TestPackagesAreEnough(t *testing.T) {
	for _, r := range catalogue() {
		for _, tool := range r.tools() {
			if tool == goTool() || slices.Contains(debTools(), tool) {
				continue
			}
			for pkg := range strings.FieldsSeq(tool.debian) {
				if !slices.Contains(Packages(), pkg) {
					t.Errorf("%s needs %s, which Packages does not name", r.name, pkg)
				}
			}
		}
	}
}

func TestPackageFiles(t *testing.T) {
	printed := "NOTE: some text\n'http://mirror.example/pool/b/b_1%2b2_amd64.deb' b_1+2_amd64.deb 928188 SHA256:bb\n" +
		"'http://mirror.example/pool/a/a_1_all.deb' a_1_all.deb 12 SHA256:aa\n"
	got, err := packageFiles(printed)
	if want := []string{"a_1_all.deb SHA256:aa", "b_1+2_amd64.deb SHA256:bb"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := packageFiles("Reading package lists...\n"); err == nil {
		t.Error("no packages: no error")
	}
}
