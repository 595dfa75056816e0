// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
	"github.com/muster-project/muster/internal/golden"
)

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func someRuns() results {
	var r results
	for i, wall := range []float64{21, 19.5, 20} {
		report := runReport{
			Schema: runSchema, Seconds: wall - 0.5, BytesSent: 128_800_000,
			Phases: []span{{Phase: "preflight", From: 0, To: 0.1}, {Phase: "coredns", From: 15, To: wall - 0.5}},
		}
		r.muster = append(r.muster, musterRun{
			init: cost{seconds(wall), seconds(wall - 1)}, initReport: report,
			join: cost{seconds(10 + float64(i)), seconds(8)}, joinReport: runReport{Schema: runSchema, BytesSent: 90_000_000},
		})
		r.peer = append(r.peer, peerRun{
			prepared: preparation{copyPrograms: seconds(9), copyImages: seconds(14), importImages: seconds(15)},
			init:     cost{seconds(2 * wall), seconds(30)}, join: cost{seconds(8), seconds(6)},
		})
	}
	return r
}

func TestSection(t *testing.T) {
	where := document.Place{Cores: 2, Model: "Example CPU", Kernel: "6.12.0", Load: "0.10, 0.20, 0.30", Commit: "0123456789ab"}
	out, err := render(where, someRuns())
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "section.golden", out)
}

func TestMedianIsARun(t *testing.T) {
	same := func(d time.Duration) time.Duration { return d }
	for _, c := range []struct {
		values []time.Duration
		want   time.Duration
	}{
		{[]time.Duration{5}, 5},
		{[]time.Duration{9, 1}, 1},
		{[]time.Duration{9, 1, 4}, 4},
		{[]time.Duration{9, 1, 4, 5}, 4},
	} {
		if got := median(c.values, same); got != c.want {
			t.Errorf("median of %v is %d, want %d", c.values, got, c.want)
		}
	}
}

func TestParseReport(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		want string // in the error; empty is none
	}{
		"good":         {`{"schema":"muster/run/v1","seconds":2.5,"phases":[{"phase":"cert","from":0,"to":1}]}`, ""},
		"other schema": {`{"schema":"muster/run/v2"}`, "muster/run/v2"},
		"no JSON":      {"Everything was as the inventory says", "Everything was"},
		"nothing":      {"", "report"},
	} {
		r, err := parseReport([]byte(c.data))
		switch {
		case c.want == "" && (err != nil || r.Seconds != 2.5 || len(r.Phases) != 1):
			t.Errorf("%s: %+v, %v", name, r, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
	}
}

func TestWithout(t *testing.T) {
	const head = "cluster: bench\nhosts:\n"
	const cp, w = "  - name: cp-1\n    address: 10.77.0.11\n", "  - name: w-1\n    address: 10.77.0.21\n"
	if got, err := without([]byte(head+cp+w), "w-1"); err != nil || string(got) != head+cp {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{head + cp, head + w + cp} {
		if got, err := without([]byte(bad), "w-1"); err == nil {
			t.Errorf("from %q it made %q", bad, got)
		}
	}
}

// machineCPU counts a process and its children, and says so when it is gone.
func TestMachineCPU(t *testing.T) {
	before, err := machineCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for x, deadline := uint64(1), time.Now().Add(10*time.Second); ; x = x*6364136223846793005 + 1 {
		if x%(1<<16) != 1 {
			continue
		}
		after, err := machineCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("busy for 10 s, and no CPU time was counted")
		}
	}
	if _, err := machineCPU(-1); err == nil {
		t.Error("a process that cannot be was counted")
	}
}

func TestArchive(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out)
	err := errors.Join(a.text("/etc/x/y.conf", []byte("text")), a.link("/usr/bin/kubelet", "kubernetes"), a.close())
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&out)
	first, err := r.Next()
	if err != nil || first.Name != "etc/x/y.conf" || first.Mode != 0o644 {
		t.Fatalf("%+v, %v", first, err)
	}
	if data, err := io.ReadAll(r); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	if second, err := r.Next(); err != nil || second.Name != "usr/bin/kubelet" || second.Linkname != "kubernetes" {
		t.Errorf("%+v, %v", second, err)
	}
}

func TestParseArguments(t *testing.T) {
	for _, bad := range [][]string{{"-runs", "0"}, {"argument"}, {"-within", "soon"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	o, err := parse([]string{"-runs", "2", "-out", "x.md"}, io.Discard)
	if err != nil || o.runs != 2 || o.out != "x.md" || o.lab == "" || o.within == 0 {
		t.Errorf("%+v, %v", o, err)
	}
}
