// SPDX-License-Identifier: Apache-2.0

package inventory_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/inventory"
)

// TestParse compares each testdata/*.yaml with its golden file: the normal
// form, or the list of faults.
func TestParse(t *testing.T) {
	for _, path := range inputs(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			inv, err := inventory.Parse(bytes.NewReader(read(t, path)))
			got := inv.YAML()
			if err != nil {
				got = []byte(err.Error() + "\n")
			}
			golden.Equal(t, strings.TrimSuffix(filepath.Base(path), ".yaml")+".golden", got)
		})
	}
}

func TestNormalFormReadsBack(t *testing.T) {
	valid := 0
	for _, path := range inputs(t) {
		inv, err := inventory.Parse(bytes.NewReader(read(t, path)))
		if err != nil {
			continue
		}
		valid++
		again, err := inventory.Parse(bytes.NewReader(inv.YAML()))
		if err != nil {
			t.Fatalf("%s: the normal form has faults: %v\n%s", path, err, inv.YAML())
		}
		if !reflect.DeepEqual(inv, again) {
			t.Errorf("%s: read back as\n%+v\nwant\n%+v", path, again, inv)
		}
	}
	if valid < 3 {
		t.Errorf("%d valid inputs in testdata; want at least 3", valid)
	}
}

func TestOrderMeansNothing(t *testing.T) {
	head := "apiVersion: muster/v1\ncluster: x\nkubernetes: 1.36.3\n"
	a := `- {name: a, address: 192.0.2.1, roles: [control-plane, etcd], taints: ["x:NoExecute", "b:NoExecute"]}` + "\n"
	b := `- {name: b, address: 192.0.2.2, roles: [worker]}` + "\n"
	aBackwards := `- {taints: ["b:NoExecute", "x:NoExecute"], roles: [etcd, control-plane], address: 192.0.2.1, name: a}` + "\n"
	first, err := inventory.Parse(strings.NewReader(head + "hosts:\n" + a + b))
	if err != nil {
		t.Fatal(err)
	}
	second, err := inventory.Parse(strings.NewReader("hosts:\n" + b + aBackwards + head))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("the order in the file changed the value:\n%s\n%s", first.YAML(), second.YAML())
	}
}

func TestFaultsAreSortedAndTyped(t *testing.T) {
	_, err := inventory.Parse(bytes.NewReader(read(t, "testdata/many-faults.yaml")))
	var faults inventory.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("error is %T; want Faults", err)
	}
	if !slices.IsSortedFunc(faults, func(a, b inventory.Fault) int { return a.Line - b.Line }) {
		t.Error("faults are not sorted by line")
	}
	if faults.ExitCode() != 3 {
		t.Errorf("exit code %d; want 3", faults.ExitCode())
	}
}

func TestParseOfABrokenReader(t *testing.T) {
	_, err := inventory.Parse(iotest.ErrReader(io.ErrClosedPipe))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v; want the reader's error", err)
	}
	if _, err := inventory.Parse(strings.NewReader(strings.Repeat("# much\n", 1<<20))); !errors.As(err, new(inventory.Faults)) {
		t.Errorf("got %v for a file of 7 MiB; want a fault", err)
	}
}

func TestRolesAndNodeValues(t *testing.T) {
	inv, err := inventory.Parse(bytes.NewReader(read(t, "testdata/full.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range inv.WithRole(inventory.Etcd) {
		names = append(names, h.Name)
	}
	if want := []string{"e1", "e2", "e3"}; !slices.Equal(names, want) {
		t.Errorf("etcd hosts %v; want %v", names, want)
	}
	if _, ok := inv.Host("nobody"); ok {
		t.Error("found a host that is not there")
	}
	cp, ok := inv.Host("cp")
	if !ok || !cp.Has(inventory.ControlPlane) || cp.Has(inventory.Worker) {
		t.Fatalf("host cp: %+v, %v", cp, ok)
	}
	own := inventory.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}
	if got := cp.NodeTaints(); !slices.Contains(got, own) {
		t.Errorf("taints of a control-plane host: %v", got)
	}
	cp.Roles, cp.Zone = append(cp.Roles, inventory.Worker), "z"
	if got := cp.NodeTaints(); len(got) != 0 {
		t.Errorf("taints of a control-plane host that is a worker too: %v", got)
	}
	if got := cp.NodeLabels(); len(got) != 1 || got["topology.kubernetes.io/zone"] != "z" {
		t.Errorf("labels %v", got)
	}
}

func TestExpandHome(t *testing.T) {
	for in, want := range map[string]string{"~/.ssh/x": "/home/o/.ssh/x", "/a/~/b": "/a/~/b", "x": "x", "~": "~"} {
		if got := inventory.ExpandHome(in, "/home/o"); got != want {
			t.Errorf("ExpandHome(%q) = %q; want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range inputs(f) {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := inventory.Parse(bytes.NewReader(data))
		if err != nil {
			checkFaults(t, err, bytes.Count(data, []byte("\n"))+1)
			return
		}
		again, err := inventory.Parse(bytes.NewReader(inv.YAML()))
		if err != nil {
			t.Fatalf("the normal form has faults: %v\n%s", err, inv.YAML())
		}
		if !reflect.DeepEqual(inv, again) {
			t.Fatalf("read back as\n%s\nwant\n%s", again.YAML(), inv.YAML())
		}
	})
}

func checkFaults(t *testing.T, err error, lines int) {
	t.Helper()
	var faults inventory.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("error is %T with %v; want faults", err, err)
	}
	for _, f := range faults {
		if f.Problem == "" || f.Line < 0 || f.Line > lines+1 {
			t.Fatalf("fault %+v in a file of %d lines", f, lines)
		}
	}
}

func BenchmarkParse1000Hosts(b *testing.B) {
	data := thousand()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := inventory.Parse(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
