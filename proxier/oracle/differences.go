// SPDX-License-Identifier: Apache-2.0

package oracle

// Difference is a way in which muster differs from upstream on purpose.
type Difference struct {
	Name   string
	Reason string
	Is     func(Flow) bool // asked only where the two differ
}

// Differences lists all of them.
func Differences() []Difference {
	return []Difference{
		{
			Name: "the host's own connections keep their source",
			Reason: "Upstream masquerades what the host itself sends, because it starts out with a source that depends on a route which" +
				" has nothing to do with the endpoint. Here the routes to Services name the node's address as the preferred source," +
				" and to an address of its own or to a captured one the host speaks from an address of its own anyway.",
			Is: func(f Flow) bool {
				return f.Own && reaches(f.Upstream.To) && f.Upstream.To == f.Muster.To && f.Upstream.Masquerade && !f.Muster.Masquerade
			},
		},
		{
			Name: "ClusterIPs that no Service has are refused",
			Reason: "Upstream drops packets to them, so that a client that is ahead of the proxy tries again. One that is refused" +
				" can do the same, and one with a wrong address learns it at once instead of after a timeout.",
			Is: func(f Flow) bool { return f.Unallocated && f.Upstream.To == "DROP" && f.Muster.To == "REJECT" },
		},
	}
}

// Choices are the cases of upstream's TestCategorizeEndpoints in which muster
// uses other endpoints, and why.
func Choices() map[string]string {
	return map[string]string{
		"PreferSameNode_falls_back_to_same-zone_when_feature_gate_disabled": "The gate PreferSameTrafficDistribution is on since Kubernetes 1.34" +
			" and cannot be turned off since 1.35; upstream's test emulates 1.34. Here there are no gates: a hint for a node is followed.",
	}
}

// Explain finds the difference that f is an example of.
func Explain(f Flow) (Difference, bool) {
	for _, d := range Differences() {
		if d.Is(f) {
			return d, true
		}
	}
	return Difference{}, false
}
