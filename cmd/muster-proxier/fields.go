// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// field is one field of a KubeProxyConfiguration, by its path in the file.
type field struct {
	path    string
	ignored string // why it has no effect here; empty: it has
}

// fields are all of them. A path that ends in a dot stands for all below it.
var fields = [...]field{
	{path: "apiVersion"},
	{path: "kind"},
	{path: "mode"},
	{path: "clientConnection."},
	{path: "hostnameOverride"},
	{path: "bindAddress"},
	{path: "bindAddressHardFail"},
	{path: "healthzBindAddress"},
	{path: "metricsBindAddress"},
	{path: "enableProfiling"},
	{path: "clusterCIDR"},
	{path: "detectLocalMode"},
	{path: "detectLocal."},
	{path: "nodePortAddresses"},
	{path: "oomScoreAdj"},
	{path: "conntrack."},
	{path: "logging.format"},
	{path: "logging.verbosity"},
	{path: "ipvs."},
	{path: "iptables.masqueradeAll"},
	{path: "iptables.masqueradeBit"},
	{path: "nftables.masqueradeAll"},
	{path: "nftables.masqueradeBit"},
	{path: "iptables.syncPeriod"},
	{path: "iptables.minSyncPeriod"},
	{path: "nftables.syncPeriod"},
	{path: "nftables.minSyncPeriod"},

	{"configSyncPeriod", "watches lose nothing, so objects are not gone through again on a timer"},
	{"featureGates.", "the gates are of kube-proxy's code"},
	{"iptables.localhostNodePorts", "IPVS cannot serve 127.0.0.1"},
	{"logging.", "of the logging only format and verbosity"},
	{"portRange", "kube-proxy does not use it either"},
	{"showHiddenMetricsForVersion", "no metric is hidden"},
	{"windowsRunAsService", "it is for Windows"},
	{"winkernel.", "it is for Windows"},
}

// lookUp finds the entry of a field; of several that fit the first is meant.
func lookUp(path string) (field, bool) {
	for _, f := range fields {
		if f.path == path || strings.HasSuffix(f.path, ".") && strings.HasPrefix(path, f.path) {
			return f, true
		}
	}
	return field{}, false
}

// ignoredFields lists what the file sets to something other than nothing and
// has no effect, each with its reason.
func ignoredFields(tree map[string]any) []string {
	var list []string
	for path := range leaves(tree, "") {
		if f, _ := lookUp(path); f.ignored != "" {
			list = append(list, fmt.Sprintf("%s (%s)", path, f.ignored))
		}
	}
	return list
}

// leaves are the paths of all values that are something, sorted.
func leaves(tree map[string]any, path string) func(func(string) bool) {
	return func(yield func(string) bool) { visit(tree, path, yield) }
}

func visit(tree map[string]any, path string, yield func(string) bool) bool {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		name := path + key
		if below, ok := tree[key].(map[string]any); ok {
			if !visit(below, name+".", yield) {
				return false
			}
			continue
		}
		// A gate that is set to false is set.
		if (!isZero(tree[key]) || strings.HasPrefix(name, "featureGates.")) && !yield(name) {
			return false
		}
	}
	return true
}

// isZero tells what kubeadm writes for fields that nobody set.
func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == "" || v == "0s" || v == "0"
	case bool:
		return !v
	case int64:
		return v == 0
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	}
	return false
}
