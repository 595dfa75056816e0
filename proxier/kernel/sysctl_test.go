// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSysctls(t *testing.T) {
	list := []sysctl{{name: "net/a", value: "1"}, {name: "net/b", value: "0"}, {name: "net/c", value: "1"}, {name: "net/gone", value: "1", optional: true}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		between func(sysctls)
		want    string // after restoring
	}{
		{"as they were", func(sysctls) {}, "0 1 1"},
		{"set twice", func(s sysctls) { must(s.set(list)) }, "0 1 1"},
		{"somebody changed one since", func(s sysctls) { must(s.write("net/a", "7")) }, "7 1 1"},
		{"somebody changed one and it was set again", func(s sysctls) { must(s.write("net/b", "5")); must(s.set(list)) }, "0 1 1"},
		{"a module was unloaded", func(s sysctls) { must(os.Remove(filepath.Join(s.root, "net/a"))) }, "- 1 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sysctls{root: t.TempDir(), file: filepath.Join(t.TempDir(), "state", "sysctls.json")}
			if err := os.Mkdir(filepath.Join(s.root, "net"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"net/a": "0", "net/b": "1", "net/c": "1"} {
				if err := s.write(name, value); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.set(list); err != nil {
				t.Fatal(err)
			}
			if got := values(s); got != "1 0 1" {
				t.Fatalf("set to %q", got)
			}
			c.between(s)
			for range 2 {
				if err := s.restore(); err != nil {
					t.Fatal(err)
				}
				if got := values(s); got != c.want {
					t.Errorf("restored to %q, want %q", got, c.want)
				}
			}
			if _, err := os.Stat(filepath.Dir(s.file)); err == nil {
				t.Error("the state directory is still there")
			}
		})
	}
}

func TestSysctlsThatCannotBeSet(t *testing.T) {
	s := sysctls{root: t.TempDir(), file: filepath.Join(t.TempDir(), "sysctls.json")}
	if err := s.set([]sysctl{{name: "net/none", value: "1"}}); err == nil || !strings.Contains(err.Error(), "net/none") {
		t.Errorf("a kernel without the setting: %v", err)
	}
	if err := os.WriteFile(s.file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.restore(); err == nil || !strings.Contains(err.Error(), s.file) {
		t.Errorf("a broken state file: %v", err)
	}
}

func values(s sysctls) string {
	var all []string
	for _, name := range []string{"net/a", "net/b", "net/c"} {
		value, err := s.read(name)
		if err != nil {
			value = "-"
		}
		all = append(all, value)
	}
	return strings.Join(all, " ")
}
