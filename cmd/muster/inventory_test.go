// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runInventory runs the program.
func runInventory(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"inventory"}, args...), streams{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

func writeInventory(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const validInventory = `apiVersion: muster/v1
cluster: demo
kubernetes: 1.36.3
hosts:
- {name: cp-1, address: 192.0.2.1, roles: [control-plane, etcd]}
- {name: w-1, address: 192.0.2.2, roles: [worker]}
`

func TestInventoryCheck(t *testing.T) {
	good := writeInventory(t, validInventory)
	bad := writeInventory(t, strings.Replace(strings.Replace(validInventory, "[worker]", "[wroker]", 1), "192.0.2.1", "192.0.2", 1))
	code, out, _ := runInventory(t, "check", "-f", good)
	if want := good + ": no faults; cluster demo, Kubernetes 1.36.3, 2 hosts (control-plane 1, etcd 1, worker 1)\n"; code != exitOK || out != want {
		t.Errorf("exit %d, printed %q; want %q", code, out, want)
	}
	code, out, errOut := runInventory(t, "check", "-f", bad)
	if code != exitInventory || out != "" || !strings.Contains(errOut, "line 5: hosts[0].address") || !strings.Contains(errOut, "line 6: hosts[1].roles[0]") {
		t.Errorf("exit %d, out %q, err %q; want both faults", code, out, errOut)
	}
	code, _, errOut = runInventory(t, "check", "-f", good+"x")
	if code != exitError || !strings.Contains(errOut, "--file") {
		t.Errorf("a missing file: exit %d, %q", code, errOut)
	}
}

func TestInventoryCheckAsJSON(t *testing.T) {
	type report struct {
		Schema string
		Valid  bool
		Faults []struct {
			Path, Problem, Hint string
			Line                int
		}
	}
	for text, faults := range map[string]int{validInventory: 0, strings.Replace(validInventory, "[worker]", "[wroker]", 1): 1} {
		code, out, _ := runInventory(t, "check", "-o", "json", "-f", writeInventory(t, text))
		var got report
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if got.Schema != "muster/inventory-check/v1" || got.Valid != (faults == 0) || got.Faults == nil || len(got.Faults) != faults {
			t.Errorf("printed %s", out)
		}
		if (code == exitInventory) != (faults > 0) {
			t.Errorf("exit code %d with %d faults", code, faults)
		}
	}
}

func TestInventoryShow(t *testing.T) {
	code, out, errOut := runInventory(t, "show", "-f", writeInventory(t, validInventory))
	if code != exitOK || !strings.Contains(out, "endpoint: 192.0.2.1:6443") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	if code, again, _ := runInventory(t, "show", "-f", writeInventory(t, out)); code != exitOK || again != out {
		t.Errorf("the normal form does not read back to itself: exit %d\n%s", code, again)
	}
}
