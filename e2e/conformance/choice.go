// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"strings"
)

// groups are the outermost containers whose specs are about the proxier, or
// about what it is told; in the order in which they run.
func groups() []string {
	return []string{
		"Services", "Conntrack", "LoadBalancers [Feature:LoadBalancer]",
		"LoadBalancers ExternalTrafficPolicy: Local [Feature:LoadBalancer] [Slow]", "KubeProxy", "Networking", "Traffic Distribution", "Topology Hints",
		"HostPort", "Service CIDRs", "ServiceCIDR and IPAddress API", "EndpointSlice", "EndpointSliceMirroring",
		"[Feature:IPv6DualStack]", "Endpoints", "EndpointsController", "Proxy", "NoSNAT", "Connectivity Pod Lifecycle", "Service endpoints latency",
	}
}

// exclusion is a reason why specs do not run.
type exclusion struct {
	text   string // what their names contain
	reason string
}

// exclusions are specs of groups that do run, and whole groups that a reader
// would look for. The first that matches counts.
func exclusions() []exclusion {
	return []exclusion{
		{"[Feature:Networking-IPv4]", "the lab has no way to the Internet"},
		{"[Feature:Networking-IPv6]", "the lab has no way to the Internet"},
		{"[Feature:Networking-DNS]", "the lab has no way to the Internet"},
		{"[Feature:Networking-Performance]", "measures the machines, not the proxier"},
		{"[Feature:KubeProxyNFAcct]", "is about counters of kube-proxy's iptables rules"},
		{"[Feature:KubeProxyDaemonSetMigration]", "is about replacing kube-proxy's static pods by a DaemonSet"},
	}
}

// otherGroup is the reason of groups that are about something else.
const otherGroup = "is not about Services"

// leftOut says why a spec does not run; empty is that it does.
func leftOut(s spec, dualStack bool) string {
	if strings.Contains(s.name, "[Feature:IPv6DualStack]") && !dualStack {
		return "the cluster of this run has IPv4 only (-dual-stack makes one that has both)"
	}
	for _, e := range exclusions() {
		if strings.Contains(s.name, e.text) {
			return e.reason
		}
	}
	if !slices.Contains(groups(), s.group) {
		return otherGroup
	}
	return ""
}

// choose gives the specs that run: first those that every cluster must pass,
// then by group, and otherwise as they came.
func choose(specs []spec, dualStack bool) []spec {
	chosen := slices.DeleteFunc(slices.Clone(specs), func(s spec) bool { return leftOut(s, dualStack) != "" })
	slices.SortStableFunc(chosen, func(a, b spec) int {
		if a.conformance() != b.conformance() {
			return map[bool]int{true: -1, false: 1}[a.conformance()]
		}
		return cmp.Compare(slices.Index(groups(), a.group), slices.Index(groups(), b.group))
	})
	return chosen
}

// findings say what is behind failures that were looked into: the cause, and
// the evidence for it.
func findings() []exclusion {
	return nil
}

// findingOf is what is known about a failure of a spec; empty is nothing.
func findingOf(s spec) string {
	for _, f := range findings() {
		if strings.Contains(s.name, f.text) {
			return f.reason
		}
	}
	return ""
}
