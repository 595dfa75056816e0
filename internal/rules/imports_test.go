// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/muster-project/muster/"

// layers are the folders from the bottom to the top; a package imports only
// what lies below it. Within a folder Go itself forbids circles.
var layers = [][]string{
	{"internal"},
	{"version", "pki", "inventory", "remote", "kubeconfig", "proxier", "bundle/internal"},
	{"bundle", "templates", "etcd", "addons", "remote/ssh", "remote/sshtest", "cmd/muster-proxier", "deploy"},
	{"bundle/build", "plan/step", "e2e/lab", "cmd/muster-etcd"},
	{"facts", "agent/protocol", "agent/approver", "internal/prerequisites"},
	{"plan", "agent"},
	{"phases", "cmd/muster-node"},
	{"operator"},
	{"cmd/muster"},
	{"e2e"},
}

// layerOf finds the layer of the longest folder that holds a package; -1 if
// nobody has said where it belongs.
func layerOf(pkg string) (layer int, folder string) {
	layer = -1
	for i, folders := range layers {
		for _, f := range folders {
			if within(pkg, f) && len(f) > len(folder) {
				layer, folder = i, f
			}
		}
	}
	return layer, folder
}

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// goPackage is what `go list` says of a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%s: %v: %s", cmd, err, exit.Stderr)
		}
		t.Fatalf("%s: %v", cmd, err)
	}
	var all []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsGoOneWay(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 20 {
		t.Fatalf("only %d packages found", len(packages))
	}
	for _, p := range packages {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		layer, folder := layerOf(from)
		if !ours || layer < 0 {
			t.Errorf("%s: add it to the layers of this test", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if !ours {
				continue
			}
			below, other := layerOf(to)
			if other != folder && below >= layer {
				t.Errorf("%s imports %s, which does not lie below it", from, to)
			}
		}
	}
}

// TestPrograms checks what reaches a program over any number of imports.
func TestPrograms(t *testing.T) {
	installer := []string{"plan", "phases", "inventory", "facts", "agent", "operator", "bundle", "remote", "templates", "addons", "pki"}
	for program, forbidden := range map[string][]string{
		"./cmd/muster": {
			"k8s.io/client-go", "k8s.io/api/", "google.golang.org/grpc", // slow to start: `muster version` has 50 ms
			"go.etcd.io/etcd", module + "proxier", module + "agent/approver",
		},
		"./cmd/muster-node":    {"k8s.io/client-go", "go.etcd.io/etcd", "google.golang.org/grpc", module + "phases", module + "operator", module + "remote/ssh", module + "bundle"},
		"./cmd/muster-etcd":    append(in(module, installer), "k8s.io/"),
		"./cmd/muster-proxier": in(module, installer),
		"./proxier":            append(in(module, installer), "k8s.io/client-go", "github.com/vishvananda/netlink", "github.com/google/nftables"),
	} {
		deps := list(t, "-deps", program)
		if len(deps) < 20 {
			t.Errorf("%s: only %d packages found", program, len(deps))
		}
		for _, f := range forbidden {
			i := slices.IndexFunc(deps, func(p goPackage) bool {
				return p.ImportPath == f || strings.HasPrefix(p.ImportPath, strings.TrimSuffix(f, "/")+"/")
			})
			if i >= 0 {
				t.Errorf("%s reaches %s, and may not reach %s", program, deps[i].ImportPath, f)
			}
		}
	}
}

func in(prefix string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, prefix+n)
	}
	return all
}

// TestLibrariesHaveOneOwner keeps a decision, such as which host keys are
// accepted, in one place.
func TestLibrariesHaveOneOwner(t *testing.T) {
	owners := map[string][]string{
		"golang.org/x/crypto/ssh":                {"remote/ssh", "remote/sshtest", "e2e"},
		"github.com/pkg/sftp":                    {"remote/ssh", "remote/sshtest"},
		"github.com/vishvananda/netlink":         {"proxier/kernel", "proxier/takeover", "proxier/neighbours", "agent", "e2e"},
		"github.com/mdlayher/netlink":            {"proxier/kernel", "proxier/takeover", "proxier/neighbours", "e2e"},
		"github.com/google/nftables":             {"proxier/kernel", "proxier/takeover", "proxier/neighbours", "e2e"},
		"github.com/hashicorp/yamux":             {"agent/protocol"},
		"github.com/coreos/go-systemd":           {"agent", "cmd/muster-etcd", "cmd/muster-proxier", "etcd"},
		"go.etcd.io/etcd":                        {"etcd", "cmd/muster-etcd"},
		"k8s.io/client-go":                       {"cmd/muster-proxier", "e2e"},
		"github.com/google/go-containerregistry": {"bundle", "e2e"},
		"github.com/spf13/cobra":                 {"cmd"},
	}
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		for library, folders := range owners {
			uses := slices.ContainsFunc(p.Imports, func(i string) bool { return within(i, library) })
			if uses && !slices.ContainsFunc(folders, func(f string) bool { return within(from, f) }) {
				t.Errorf("%s imports %s, which is for %s", from, library, strings.Join(folders, ", "))
			}
		}
	}
}
