// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// folder is where a phase's package is.
func folder(phase string) string { return filepath.Join("..", strings.ReplaceAll(phase, "-", "")) }

// packageComment reads a package's comment.
func packageComment(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no package: %v", dir, err)
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), f, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil {
			return file.Doc.Text()
		}
	}
	t.Fatalf("%s: no package comment", dir)
	return ""
}

func TestPhases(t *testing.T) {
	var names []string
	for _, p := range all.Phases() {
		if !strings.HasSuffix(p.About(), ".") && p.About() != "" && !strings.Contains(p.About(), "\n") {
			names = append(names, p.Name())
			continue
		}
		t.Errorf("%s is about %q: want one line without a full stop", p.Name(), p.About())
	}
	want := []string{"preflight", "cert", "etcd", "control-plane", "runtime", "kubelet", "proxier", "cni", "coredns"}
	if !slices.Equal(names, want) {
		t.Errorf("phases are %v, want %v", names, want)
	}
}

// The comment of a phase's package says what the phase owns on hosts: every
// unit it starts by name, and every file is below a path that some phase names.
func TestPhasesSayWhatTheyOwn(t *testing.T) {
	comments, owned := map[string]string{}, []string{"/opt/muster/bin"}
	for _, p := range all.Phases() {
		comments[p.Name()] = packageComment(t, folder(p.Name()))
		owned = append(owned, regexp.MustCompile(`/[a-z][\w./-]*\w`).FindAllString(comments[p.Name()], -1)...)
	}
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		for _, task := range p.Tasks {
			for _, s := range task.Steps {
				for _, touch := range s.Touches() {
					if touch.Kind == step.TouchUnit && !strings.Contains(comments[task.Phase], touch.Name) {
						t.Errorf("phase %s starts %s and its package comment does not say so", task.Phase, touch.Name)
					}
					if touch.Kind == step.TouchPath && !isOwned(touch.Name, owned) {
						t.Errorf("phase %s makes %s, which no package comment owns", task.Phase, touch.Name)
					}
				}
			}
		}
	})
}

func isOwned(path string, owned []string) bool {
	if strings.HasPrefix(path, "/etc/systemd/system/") {
		return true // the unit's name is claimed instead
	}
	return slices.ContainsFunc(owned, func(o string) bool { return path == o || strings.HasPrefix(path, o+"/") })
}
