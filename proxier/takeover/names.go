// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"slices"
	"strings"

	"github.com/muster-project/muster/proxier"
)

// The names of kube-proxy up to 1.37, from its sources: pkg/proxy/ipvs,
// pkg/proxy/iptables and pkg/proxy/nftables, with their cleanup.go.
const (
	device     = "kube-ipvs0"
	ownTable   = "kube-proxy" // of nftables mode, in ip and ip6
	forwarding = "KUBE-FORWARD"
)

// chainNames are the chains with fixed names, in whichever table. The
// kubelet's own are not among them.
func chainNames() []string {
	return []string{
		"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-MARK-MASQ",
		"KUBE-LOAD-BALANCER", forwarding, "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER",
		"KUBE-IPVS-OUT-FILTER", "KUBE-PROXY-CANARY",
	}
}

// chainPrefixes begin the chains of single Services and endpoints: a hash of
// 16 characters follows.
func chainPrefixes() []string {
	return []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-"}
}

const hashLength = 16

// ownChain reports whether a chain of iptables is kube-proxy's.
func ownChain(name string) bool {
	return slices.Contains(chainNames(), name) || ofService(name)
}

// ofService tells the chains of iptables mode, which ipvs mode has not.
func ofService(name string) bool {
	return slices.ContainsFunc(chainPrefixes(), func(prefix string) bool {
		hash, ok := strings.CutPrefix(name, prefix)
		return ok && len(hash) == hashLength
	})
}

// setNames are the ipsets of ipvs mode, without the prefix of their family.
func setNames() []string {
	return []string{
		"LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-LOCAL", "LOAD-BALANCER-FW",
		"LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP",
		"NODE-PORT-LOCAL-UDP", "NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH", "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
	}
}

// setNameLength is the longest name of an ipset; kube-proxy cuts its own.
const setNameLength = 31

// ownSet reports whether an ipset is kube-proxy's. The IPv6 ones are those
// that its own --cleanup forgets.
func ownSet(name string) bool {
	for _, prefix := range []string{"KUBE-6-", "KUBE-"} {
		if slices.ContainsFunc(setNames(), func(n string) bool { return cut(prefix+n) == name }) {
			return true
		}
	}
	return false
}

func cut(name string) string { return name[:min(len(name), setNameLength)] }

// nodePortSets say which ports of the host's addresses are NodePorts.
func nodePortSets() map[string]proxier.Protocol {
	sets := map[string]proxier.Protocol{}
	for _, prefix := range []string{"KUBE-", "KUBE-6-"} {
		sets[prefix+"NODE-PORT-TCP"] = proxier.TCP
		sets[prefix+"NODE-PORT-UDP"] = proxier.UDP
		sets[prefix+"NODE-PORT-SCTP-HASH"] = proxier.SCTP
	}
	return sets
}

// counterNames are the nfacct objects that its iptables rules count with.
func counterNames() []string {
	return []string{"ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"}
}
