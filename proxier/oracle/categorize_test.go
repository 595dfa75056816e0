// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"maps"
	"regexp"
	"slices"
	"testing"
)

// TestCategorizeEndpoints runs upstream's test of which endpoints a node uses
// with muster's choice in the place of upstream's.
func TestCategorizeEndpoints(t *testing.T) {
	g := graft{
		dir:     "proxy",
		tests:   []string{"topology_test.go"},
		hooks:   "proxy",
		renamed: map[string][]string{"topology.go": {"CategorizeEndpoints"}},
	}
	out, _ := g.run(t, nil, "-test.v", "-test.run", "^TestCategorizeEndpoints$") // an error only says that a case failed
	results := regexp.MustCompile(`(?m)^    --- (PASS|FAIL): TestCategorizeEndpoints/(.*) \(`).FindAllSubmatch(out, -1)
	listed, same := Choices(), 0
	for _, result := range results {
		failed, name := string(result[1]) == "FAIL", string(result[2])
		reason, known := listed[name]
		delete(listed, name)
		switch {
		case failed && !known:
			t.Errorf("muster uses other endpoints than upstream: %s\n%s", name, out)
		case !failed && known:
			t.Errorf("muster uses upstream's endpoints, but is listed not to: %s: %s", name, reason)
		case !failed:
			same++
		}
	}
	if same == 0 {
		t.Fatalf("nothing is the same: was anything compared?\n%s", out)
	}
	for _, name := range sortedKeys(listed) {
		t.Errorf("listed, but no case of upstream: %s", name)
	}
	t.Logf("%d cases, %d as upstream", len(results), same)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
