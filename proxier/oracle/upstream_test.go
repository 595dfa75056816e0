// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// graft is a package of upstream with a file of ours in it.
type graft struct {
	dir     string              // below upstream's pkg
	tests   []string            // upstream's test files
	hooks   string              // our files: testdata/hooks/NAME*_test.go
	renamed map[string][]string // by file: functions that get "upstream" before their name, to make room for the hook's
}

// run compiles the graft as a package of this module and runs its tests.
func (g graft) run(t *testing.T, env []string, flags ...string) ([]byte, error) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// Compiled first and run elsewhere: the package's folder is not there.
	temp := t.TempDir()
	program := filepath.Join(temp, "upstream.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-o", program, "-overlay", g.overlay(t, here), "./upstream/"+g.dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile upstream's tests with %s: %v\n%s", g.hooks, err, out)
	}
	tests := exec.CommandContext(t.Context(), program, flags...)
	tests.Dir = temp
	tests.Env = append(os.Environ(), env...)
	return tests.CombinedOutput()
}

// overlay writes the file that tells the go command which files the package
// consists of. Upstream's are named where they lie.
func (g graft) overlay(t *testing.T, here string) string {
	t.Helper()
	temp := t.TempDir()
	hooks, err := filepath.Glob(filepath.Join(here, "testdata", "hooks", g.hooks+"*_test.go"))
	if err != nil || len(hooks) == 0 {
		t.Fatalf("no hook %s: %v", g.hooks, err)
	}
	replace := map[string]string{}
	for _, hook := range hooks {
		replace[filepath.Join(here, "upstream", g.dir, "muster_"+filepath.Base(hook))] = hook
	}
	dir := filepath.Join(upstreamModule(t), "pkg", filepath.FromSlash(g.dir))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		test := strings.HasSuffix(e.Name(), "_test.go")
		if filepath.Ext(e.Name()) != ".go" || test && !slices.Contains(g.tests, e.Name()) {
			continue
		}
		file := filepath.Join(dir, e.Name())
		if names := g.renamed[e.Name()]; names != nil {
			file = renamedCopy(t, file, names, temp)
		}
		replace[filepath.Join(here, "upstream", g.dir, e.Name())] = file
	}
	data, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func upstreamModule(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatalf("find upstream's module: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// renamedCopy copies a Go file and renames declarations of functions in it,
// but not their uses.
func renamedCopy(t *testing.T, file string, names []string, to string) string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	src, err = renameFuncs(src, names)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	path := filepath.Join(to, filepath.Base(file))
	if err := os.WriteFile(path, src, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func renameFuncs(src []byte, names []string) ([]byte, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	done, found := 0, []string{}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || !slices.Contains(names, f.Name.Name) {
			continue
		}
		at := files.Position(f.Name.Pos()).Offset
		out.Write(src[done:at])
		out.WriteString("upstream" + strings.ToUpper(f.Name.Name[:1]) + f.Name.Name[1:])
		done = at + len(f.Name.Name)
		found = append(found, f.Name.Name)
	}
	out.Write(src[done:])
	if len(found) != len(names) {
		return nil, fmt.Errorf("functions %q, found only %q: upstream has changed, and so must the hook", names, found)
	}
	return out.Bytes(), nil
}

func TestRenameFuncs(t *testing.T) {
	src := "package p\nfunc a() { b() }\nfunc (t T) b() { a() }\n"
	got, err := renameFuncs([]byte(src), []string{"b"})
	if want := "package p\nfunc a() { b() }\nfunc (t T) upstreamB() { a() }\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := renameFuncs([]byte(src), []string{"a", "c"}); err == nil {
		t.Error("a function that is not there is no error")
	}
}
