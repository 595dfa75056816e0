// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/muster-project/muster/proxier"
)

// Backend is one of the two implementations of iptables, whose tables the
// kernel keeps apart.
type Backend string

// The backends.
const (
	NFT    Backend = "nft"
	Legacy Backend = "legacy"
)

// Table is one table of iptables, or of nftables.
type Table struct {
	Backend Backend
	Family  string // ip or ip6
	Name    string
}

func (t Table) String() string { return fmt.Sprintf("%s %s (%s)", t.Family, t.Name, t.Backend) }

// Chain is a chain of kube-proxy in a table of iptables.
type Chain struct {
	Table Table
	Name  string
}

func (c Chain) String() string { return c.Table.String() + " " + c.Name }

// Jump is a rule outside kube-proxy's chains that leads into one of them.
type Jump struct {
	From   Chain
	To     string
	Handle uint64 // the kernel's number of the rule, of nft
	Rule   string // as iptables-save prints it, of legacy
}

// Server is a virtual server of kube-proxy's that its successor did not take
// over.
type Server struct {
	Frontend    proxier.Frontend
	Dests       []proxier.Dest
	Connections int // active and inactive
}

// Remains is what kube-proxy left on a host.
type Remains struct {
	Tables   []Table // of its nftables mode
	Chains   []Chain
	Jumps    []Jump
	Sets     []string // ipsets
	Counters []string // nfacct objects
	Servers  []Server

	Device    bool         // kube-ipvs0 is there
	Addresses []netip.Addr // its addresses
	Bound     []netip.Addr // those of them that sockets of the host are bound to

	// Needed are chains that must stay: what would break, by chain. They are
	// not in Chains.
	Needed map[Chain]string
	// Unseen is what cannot be cleared from here, each with what a person can do.
	Unseen []string
}

// Nothing reports whether there is nothing to clear. With keepDevice an empty
// kube-ipvs0 counts as nothing.
func (r Remains) Nothing(keepDevice bool) bool {
	return r.rules() == 0 && len(r.Sets)+len(r.Counters)+len(r.Servers)+len(r.Addresses) == 0 && (keepDevice || !r.Device)
}

// rules is how much would still act on packets.
func (r Remains) rules() int { return len(r.Tables) + len(r.Chains) + len(r.Jumps) }

// Mode guesses the mode that kube-proxy ran in last, or is "" if nothing
// tells.
func (r Remains) Mode() string {
	if len(r.Tables) > 0 {
		return "nftables"
	}
	for _, c := range r.Chains {
		if ofService(c.Name) {
			return "iptables"
		}
	}
	if r.Device || len(r.Sets) > 0 {
		return "ipvs"
	}
	if len(r.Chains) > 0 {
		return "iptables"
	}
	return ""
}

// String says in one line how much there is.
func (r Remains) String() string {
	var parts []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(len(r.Tables), "nftables table", "nftables tables")
	add(len(r.Jumps), "iptables jump", "iptables jumps")
	add(len(r.Chains), "iptables chain", "iptables chains")
	add(len(r.Sets), "ipset", "ipsets")
	add(len(r.Counters), "packet counter", "packet counters")
	add(len(r.Servers), "virtual server", "virtual servers")
	add(len(r.Addresses), "address of "+device, "addresses of "+device)
	if r.Device && len(r.Addresses) == 0 {
		parts = append(parts, device)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
