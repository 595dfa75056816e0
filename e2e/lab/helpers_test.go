// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for "muster lab forward".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "forward" {
		if err := Forward(context.Background(), os.Args[2:]); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// within fails the test when the condition does not come true in time.
func within(t *testing.T, limit time.Duration, what string, true_ func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !true_(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// threeMachines is the record of a lab with one spare worker.
func threeMachines(t *testing.T) record {
	t.Helper()
	spec, err := Spec{Name: "demo", Machines: Standard(1, 1, 1, 0)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := merge(t.Context(), record{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	r.APIPort = 40000
	for i := range r.Machines {
		r.Machines[i].SSHPort, r.Machines[i].Core = 40001+i, 0
		r.Machines[i].HostKey = must[keyPair](t)(newKeyPair("")).public
	}
	return r
}
