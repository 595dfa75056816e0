// SPDX-License-Identifier: Apache-2.0

// Package golden compares what a test made with a file in its testdata folder.
package golden

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files, and fail")

// Equal compares got with testdata/NAME. With -update it writes the file and
// fails the test, so that a run that records never passes for one that checks.
func Equal(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	want, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(got, want):
	case *update:
		write(t, path, got)
		t.Errorf("%s written: look at the change and run again without -update", path)
	case err != nil:
		t.Errorf("%v; -update writes it:\n%s", err, got)
	default:
		t.Errorf("%s differs (-update accepts it): got\n%s\nwant\n%s", path, got, want)
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
