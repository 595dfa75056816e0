// SPDX-License-Identifier: Apache-2.0

package nearest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/internal/nearest"
)

func TestOne(t *testing.T) {
	roles := []string{"control-plane", "etcd", "worker"}
	for _, c := range []struct {
		name, word string
		known      []string
		want       string
	}{
		{"right", "worker", roles, "worker"},
		{"two letters swapped", "wroker", roles, "worker"},
		{"a letter too few", "etc", roles, "etcd"},
		{"a letter too many", "ettcd", roles, "etcd"},
		{"another letter", "contrul-plane", roles, "control-plane"},
		{"three edits", "contol-pla", roles, ""},
		{"half the letters", "etxx", roles, ""},
		{"fewer than half", "tabnx", []string{"taint"}, "taint"},
		{"the nearer one", "porta", []string{"sort", "port"}, "port"},
		{"equally near", "bat", []string{"cat", "hat"}, "cat"},
		{"a part is not near", "control", roles, ""},
		{"other case", "WORKER", roles, ""},
		{"nothing written", "", roles, ""},
		{"nothing known", "worker", nil, ""},
		{"64 bytes", strings.Repeat("a", 64), []string{strings.Repeat("a", 65)}, strings.Repeat("a", 65)},
		{"65 bytes", strings.Repeat("a", 65), []string{strings.Repeat("a", 65)}, ""},
	} {
		if got := nearest.One(c.word, c.known); got != c.want {
			t.Errorf("%s: %q of %q: got %q, want %q", c.name, c.word, c.known, got, c.want)
		}
	}
}

func TestThree(t *testing.T) {
	artifacts := []string{"cni-plugins", "containerd", "containerd-shim-runc-v2", "coredns", "kubernetes"}
	for _, c := range []struct {
		name  string
		names []string
		want  []string
	}{
		{"coredn", artifacts, []string{"coredns", "containerd", "kubernetes"}},
		{"kubernets", artifacts, []string{"kubernetes", "coredns", "containerd"}},
		{"shim", artifacts, []string{"containerd-shim-runc-v2", "coredns", "containerd"}},
		{"my-containerd", []string{"mycontainers", "containerd"}, []string{"containerd", "mycontainers"}},
		{"bat", []string{"rat", "cat", "hat", "bad"}, []string{"rat", "cat", "hat"}},
		{"", []string{"long-name", "x", "yy"}, []string{"x", "yy", "long-name"}},
		{"runc", []string{"", "ruxx"}, []string{"ruxx", ""}},
		{"runc", []string{"pause"}, []string{"pause"}},
		{"runc", nil, nil},
	} {
		before := slices.Clone(c.names)
		if got := nearest.Three(c.name, c.names); !slices.Equal(got, c.want) {
			t.Errorf("%q of %q: got %q, want %q", c.name, c.names, got, c.want)
		}
		if !slices.Equal(c.names, before) {
			t.Errorf("%q: the names are now %q, were %q", c.name, c.names, before)
		}
	}
}
