// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

func TestLabParseMemory(t *testing.T) {
	for in, want := range map[string]int{"2G": 2048, "1536M": 1536, "1G": 1024} {
		if got, err := parseMemory(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "2", "G", "-1G", "0M", "2GM", "two", "1.5G"} {
		if got, err := parseMemory(in); err == nil || !strings.Contains(err.Error(), "1536M or 2G") {
			t.Errorf("%q: %d, %v; want an error that shows the form", in, got, err)
		}
	}
}

func TestLabPrint(t *testing.T) {
	var out bytes.Buffer
	err := printLabs(&out, []labView{
		{Name: "demo", Machines: []lab.Status{
			{Name: "cp-1", Roles: []string{"control-plane", "etcd"}, Address: netip.MustParseAddr("10.77.0.11"), SSHPort: 40001, MemoryMiB: 2048, State: lab.Running},
			{Name: "w-1", Roles: []string{"worker"}, Address: netip.MustParseAddr("10.77.0.21"), SSHPort: 40002, MemoryMiB: 512, State: lab.Paused, Spare: true},
		}},
		{Name: "half"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `LAB   MACHINE  STATE       ADDRESS     SSH              MEMORY  ROLES
demo  cp-1     running     10.77.0.11  127.0.0.1:40001  2048M   control-plane,etcd
demo  w-1      paused      10.77.0.21  127.0.0.1:40002  512M    worker (spare)
half  -        incomplete  -           -                -       -
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// runLab runs `muster lab` with a state directory of its own.
func runLab(t *testing.T, state string, args ...string) (string, error) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", state)
	var out, errs bytes.Buffer
	cmd := newLabCommand(streams{in: strings.NewReader(""), out: &out, err: &errs})
	cmd.SetArgs(args)
	cmd.SetOut(&errs)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestLabListShowsWhatWasMadeHalfway(t *testing.T) {
	state := t.TempDir()
	if err := os.MkdirAll(filepath.Join(state, "muster/lab/half"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := runLab(t, state, "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		APIVersion string
		Labs       []labView
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.APIVersion != "muster/v1" || len(got.Labs) != 1 || got.Labs[0].Name != "half" {
		t.Errorf("%v in %s", err, out)
	}
	if out, err := runLab(t, t.TempDir(), "list"); err != nil || strings.Count(out, "\n") != 1 {
		t.Errorf("no labs: %q, %v", out, err)
	}
}

func TestLabFaults(t *testing.T) {
	for want, args := range map[string][]string{
		"lab up --name demo":   {"ssh", "w-1"},
		"output format":        {"list", "-o", "xml"},
		"memory \"2T\"":        {"up", "--memory", "2T"},
		"lab name \"UP\"":      {"pause", "--name", "UP", "w-1"},
		"by \"lab up\" only":   {"forward"},
		"requires at least 1":  {"stop"},
		"at least one machine": {"up", "--control-planes", "0", "--workers", "0"},
		"number is above 9":    {"up", "--control-planes", "10"},
		"muster lab up --name": {"console", "cp-1"},
	} {
		if out, err := runLab(t, t.TempDir(), args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, printed %q; want an error with %q", args, err, out, want)
		}
	}
}

func TestLabPackagesAreOneLine(t *testing.T) {
	out, err := runLab(t, t.TempDir(), "packages")
	if err != nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, " mmdebstrap ") {
		t.Errorf("%q, %v", out, err)
	}
}
