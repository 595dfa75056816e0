// SPDX-License-Identifier: Apache-2.0

package multicall

import (
	"slices"
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	for args, want := range map[string]string{
		"kubelet":                      "kubelet",
		"/usr/local/bin/kubelet --v=2": "kubelet --v=2",
		"kubelet kubectl":              "kubelet kubectl",
		"kubernetes kubelet --v=2":     "kubelet --v=2",
		"kubernetes /opt/bin/kubectl":  "kubectl",
		"kubernetes":                   "",
		"kubernetes --help":            "",
		"a b kubelet":                  "",
		"":                             "",
	} {
		if got := Pick(strings.Fields(args), []string{"kubelet", "kubectl"}); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
}
