// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/remote/ssh"
)

func TestExitCode(t *testing.T) {
	on := func(err error) error { return &operator.HostError{Host: "w-1", Err: err} }
	for _, tt := range []struct {
		err  error
		want int
	}{
		{errors.New("anything"), exitError},
		{&preflightError{2}, exitPreflight},
		{fmt.Errorf("muster.yaml: %w", inventory.Faults{{Problem: "no hosts"}}), exitInventory},
		{on(&ssh.UnreachableError{}), exitUnreachable},
		{on(&ssh.AuthError{}), exitUnreachable},
		{on(&ssh.HostKeyUnknownError{}), exitUnreachable},
		{on(&ssh.HostKeyChangedError{}), exitUnreachable},
		{on(&ssh.SudoError{}), exitUnreachable},
		{on(&ssh.LostError{}), exitUnreachable},
		{on(errors.New("muster-node is ill")), exitError},
		{&plan.Error{Host: "w-1", Phase: "etcd", Cause: errors.New("no room")}, exitStep},
		{&plan.Error{Host: "w-1", Phase: "etcd", Cause: &ssh.LostError{}}, exitUnreachable},
		{errors.Join(on(errors.New("ill")), on(&ssh.AuthError{})), exitUnreachable},
		{errors.Join(&plan.Error{Cause: errors.New("no room")}, on(&ssh.AuthError{})), exitUnreachable},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut strings.Builder
	code := run(ctx, []string{"init", "-f", "nowhere"}, streams{strings.NewReader(""), &out, &errOut})
	if code != exitInterrupted || out.String() != "" || !strings.Contains(errOut.String(), "the same command goes on from there") {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errOut.String())
	}
}

// The table of docs/exit-codes.md has the constants of run.go, all of them.
func TestExitCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "exit-codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|").FindAllStringSubmatch(string(doc), -1) {
		documented[row[2]] = row[1]
	}
	if want := exitConstants(t); !reflect.DeepEqual(documented, want) {
		t.Errorf("docs/exit-codes.md has %v, run.go %v", documented, want)
	}
}

// exitConstants reads the constants that begin with exit.
func exitConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "run.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "exit") {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				all[v.Names[0].Name] = lit.Value
			}
		}
		return true
	})
	return all
}
