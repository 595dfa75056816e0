// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refusals: a wrong key, a changed host key, a host that is down and a typo
// are told at once, and nothing has changed on any machine.
func (u *user) refusals(t *testing.T, bare map[string]string) {
	good, err := os.ReadFile(u.inventory)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := os.WriteFile(u.inventory, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	defer restore()
	change := func(t *testing.T, old, new string) {
		t.Helper()
		restore()
		text := strings.Replace(string(good), old, new, 1)
		if text == string(good) {
			t.Fatalf("the inventory has no %q", old)
		}
		if err := os.WriteFile(u.inventory, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := filepath.Dir(u.lab.Inventory())
	t.Run("typo", func(t *testing.T) {
		change(t, "roles: [worker]", "rolse: [worker]")
		r := u.run(t, "muster", "", "init")
		mustSay(t, r, 3, "rolse")
	})
	t.Run("wrong key", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "id")
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		change(t, filepath.Join(keys, "id_ed25519"), other)
		mustSay(t, u.run(t, "muster", "", "init"), 4, "cp-1", other)
	})
	t.Run("changed host key", func(t *testing.T) {
		known, err := os.ReadFile(filepath.Join(keys, "known_hosts"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, swapKeys(string(known)), 0o600); err != nil {
			t.Fatal(err)
		}
		change(t, filepath.Join(keys, "known_hosts"), path)
		mustSay(t, u.run(t, "muster", "", "init"), 4, path, "SHA256:")
	})
	t.Run("host down", func(t *testing.T) {
		restore()
		if err := u.lab.Cut(t.Context(), "w-2"); err != nil {
			t.Fatal(err)
		}
		r := u.run(t, "muster", "", "init")
		if err := u.lab.Mend(t.Context(), "w-2"); err != nil {
			t.Fatal(err)
		}
		mustSay(t, r, 4, "w-2")
	})
	for m, before := range bare {
		if diff := withoutAgent(difference(before, u.on(t, m, state))); diff != "" {
			t.Errorf("%s has changed:\n%s", m, diff)
		}
	}
}

// swapKeys gives every host the key of the next one.
func swapKeys(known string) []byte {
	lines := strings.Split(strings.TrimSpace(known), "\n")
	var out strings.Builder
	for i, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		_, key, _ := strings.Cut(lines[(i+1)%len(lines)], " ")
		fmt.Fprintln(&out, name, key)
	}
	return []byte(out.String())
}

// withoutAgent drops the one thing that muster brings to a host that it only
// asks: its own agent.
func withoutAgent(diff string) string {
	var out strings.Builder
	for line := range strings.Lines(diff) {
		if !strings.HasPrefix(line, "+ /opt/muster") && !strings.HasPrefix(line, "+ /run/muster") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func mustSay(t *testing.T, r result, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("want exit code %d: %s", code, r)
	}
	if r.took > 30*time.Second {
		t.Errorf("it took %s to say so", r.took)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("the message does not name %q: %s", text, r)
		}
	}
}
