// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-project/muster/internal/golden"
)

// nftables is kube-proxy's nftables mode, whose tests say where packets go.
func nftables() graft {
	return graft{
		dir:   "proxy/nftables",
		tests: []string{"helpers_test.go", "proxier_test.go"},
		hooks: "nftables",
		renamed: map[string][]string{
			"helpers_test.go": {"runPacketFlowTests"},
			"proxier_test.go": {"NewFakeProxier"},
			"proxier.go":      {"syncProxyRules", "OnServiceUpdate", "OnEndpointSliceAdd", "OnEndpointSliceUpdate", "OnEndpointSliceDelete"},
		},
	}
}

// TestPacketFlows compares every row of upstream's tables, and probes of
// every set of rules that upstream's tests make. The rows that differ are
// testdata/differences.md.
func TestPacketFlows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows")
	out, err := nftables().run(t, []string{EnvFlows + "=" + path, EnvSeeds + "=25"})
	if err != nil {
		t.Fatalf("upstream's tests with muster in them: %v\n%s", err, out)
	}
	sum := tally{examples: map[string][]Flow{}, probes: map[string]int{}}
	for _, f := range readFlows(t, path) {
		if !sum.count(f) {
			t.Errorf("%s: upstream %s, muster %s (%s)", f, f.Upstream, f.Muster, f.Why)
		}
	}
	t.Logf("%d rows of upstream's tables, %d as upstream; %d probes, %d as upstream", sum.rows, sum.sameRows, sum.allProbes, sum.sameProbes)
	if sum.sameRows == 0 || sum.sameProbes == 0 {
		t.Error("nothing is the same: was anything compared?")
	}
	for _, d := range Differences() {
		if len(sum.examples[d.Name])+sum.probes[d.Name] == 0 {
			t.Errorf("listed, but does not occur: %s", d.Name)
		}
	}
	golden.Equal(t, "differences.md", sum.document())
}

// tally is the result of a comparison.
type tally struct {
	rows, sameRows, allProbes, sameProbes int

	examples map[string][]Flow // rows that differ, by the name of the difference
	probes   map[string]int    // probes that differ
}

// count reports whether the flow is as it should be.
func (s *tally) count(f Flow) bool {
	if f.Agreed > 0 || f.Probe && !f.Dest.IsValid() {
		s.allProbes += f.Agreed
		s.sameProbes += f.Agreed
		return true
	}
	if f.Probe {
		s.allProbes++
	} else {
		s.rows++
	}
	if f.Same() {
		s.sameRows++ // probes that agree are only counted
		return true
	}
	d, ok := Explain(f)
	switch {
	case !ok:
	case f.Probe:
		s.probes[d.Name]++
	default:
		s.examples[d.Name] = append(s.examples[d.Name], f)
	}
	return ok
}

// document lists the differences in upstream's tables.
func (s *tally) document() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Where muster differs from kube-proxy on purpose")
	fmt.Fprintf(&b, "\nOf the %d connections in the tables of upstream's nftables proxier, %d end as they do upstream.\n", s.rows, s.sameRows)
	for _, d := range Differences() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| row | from | to | upstream | muster |\n|---|---|---|---|---|\n", d.Name, d.Reason)
		for _, f := range s.examples[d.Name] {
			fmt.Fprintf(&b, "| %s | %s | %s/%s | %s | %s |\n", f.Test, f.Source, f.Dest, f.Proto, f.Upstream, f.Muster)
		}
	}
	fmt.Fprint(&b, "\n## Which endpoints a node uses\n\nAll cases of TestCategorizeEndpoints but these:\n\n")
	for _, name := range sortedKeys(Choices()) {
		fmt.Fprintf(&b, "- %s: %s\n", name, Choices()[name])
	}
	return b.Bytes()
}

func readFlows(t *testing.T, path string) []Flow {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var list []Flow
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f Flow
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
