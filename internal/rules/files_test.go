// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository.
const root = "../.."

// source is one Go file.
type source struct {
	path string // from the top
	text []byte
	file *ast.File
	fset *token.FileSet
}

func (s source) isTest() bool {
	return strings.HasSuffix(s.path, "_test.go") || strings.HasSuffix(filepath.Dir(s.path), "test")
}

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

// sources reads every Go file of the repository, modules of their own included.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "testdata"}, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, source{filepath.ToSlash(rel), text, file, fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d files found", len(all))
	}
	return all
}

func TestFilesNameTheirLicence(t *testing.T) {
	const first = "// SPDX-License-Identifier: Apache-2.0\n\n"
	for _, s := range sources(t) {
		if !bytes.HasPrefix(s.text, []byte(first)) {
			t.Errorf("%s does not begin with %q and an empty line", s.path, strings.TrimSpace(first))
		}
	}
}

// longFiles may be longer than maxLines. The list may only shrink.
var longFiles []string

const maxLines = 500

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		lines := bytes.Count(s.text, []byte("\n"))
		excepted := slices.Contains(longFiles, s.path)
		if lines > maxLines && !excepted {
			t.Errorf("%s has %d lines, more than %d: it holds more than one thing", s.path, lines, maxLines)
		}
		if lines <= maxLines && excepted {
			t.Errorf("%s is short enough now: take it off the list", s.path)
		}
	}
}

const maxFunction = 60

// TestFunctionsAreShort leaves out tests, whose tables are long.
func TestFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				if lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; lines > maxFunction {
					t.Errorf("%s: %s has %d lines, more than %d", s.at(f), f.Name.Name, lines, maxFunction)
				}
			}
		}
	}
}

func TestPackagesHaveOneComment(t *testing.T) {
	comments := map[string][]string{} // by folder
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		dir := filepath.Dir(s.path)
		comments[dir] = append(comments[dir], nil...)
		if s.file.Doc == nil {
			continue
		}
		comments[dir] = append(comments[dir], s.path)
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(s.file.Doc.Text(), want) {
			t.Errorf("%s: the package comment does not begin with %q", s.path, want)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments (%s), want one", dir, len(files), strings.Join(files, ", "))
		}
	}
}

// forbidden are calls outside of tests, and why.
var forbidden = map[string]string{
	"time.Sleep":   "wait for a condition, with a deadline and the context",
	"fmt.Print":    "results go to the streams the command was given",
	"fmt.Printf":   "results go to the streams the command was given",
	"fmt.Println":  "results go to the streams the command was given",
	"os.Exit":      "only main ends the program",
	"log.Fatal":    "return the error",
	"log.Fatalf":   "return the error",
	"log.Fatalln":  "return the error",
	"context.TODO": "the caller has a context",
}

func TestCallsThatAreForbidden(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := pkg.Name + "." + sel.Sel.Name
			inMain := name == "os.Exit" && s.file.Name.Name == "main" && filepath.Base(s.path) == "main.go"
			if why, bad := forbidden[name]; bad && !inMain {
				t.Errorf("%s: %s: %s", s.at(n), name, why)
			}
			return true
		})
	}
}

func TestNothingIsPutOff(t *testing.T) {
	later := regexp.MustCompile(`\b(TODO|FIX` + `ME|XXX|HACK)\b`)
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			if later.MatchString(group.Text()) {
				t.Errorf("%s: %s", s.at(group), strings.TrimSpace(group.Text()))
			}
		}
	}
}

// An error names what was being done; that it failed is what an error says.
func TestErrorsSayWhatWasDone(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(strings.ToLower(lit.Value), "failed to ") {
				t.Errorf("%s: %s", s.at(lit), lit.Value)
			}
			return true
		})
	}
}

// Kubernetes itself is built from a module of its own: its replacements would
// bind every other dependency.
func TestKubernetesIsNoDependency(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*(require )?k8s\.io/kubernetes\s`).Match(mod) {
		t.Error("go.mod requires k8s.io/kubernetes; take what is needed from its staging modules")
	}
	if bytes.Contains(mod, []byte("\nreplace ")) {
		t.Error("go.mod replaces a module: `go install` by path would not build what is built here")
	}
}

// What a text sends people to is there.
func TestDocumentsThatAreNamedExist(t *testing.T) {
	named := regexp.MustCompile(`\bdocs/[a-z0-9/-]+\.md\b`)
	for _, s := range sources(t) {
		for _, doc := range named.FindAllString(string(s.text), -1) {
			if _, err := os.Stat(filepath.Join(root, doc)); err != nil {
				t.Errorf("%s names %s: %v", s.path, doc, err)
			}
		}
	}
}
