// SPDX-License-Identifier: Apache-2.0

// Package neighbours looks at what else on a host decides about the packets of
// Services, and at what the host has to have for them.
//
// A packet to a Service is delivered to the host itself (hook input), where
// IPVS takes it; the answer of a pod is forwarded. A firewall that drops in one
// of the two hooks drops Services with it: an accept in the proxier's own
// table cannot overrule a drop in another. [Look] finds such firewalls, and
// [Integration] puts the few accepting rules into them that make Services
// work. They are static: Services come and go without them.
package neighbours

import (
	"fmt"
	"slices"

	"github.com/google/nftables"

	"github.com/muster-project/muster/proxier/xtables"
)

// Finding is something that Services on this host may suffer from.
type Finding struct {
	Where string // such as "chain INPUT of table ip filter"
	What  string // what it does to Services, and what to do about it
}

func (f Finding) String() string { return f.Where + ": " + f.What }

// ownTable is the proxier's, in family inet.
const ownTable = "muster"

// firewalld is the name of that firewall's table.
const firewalld = "firewalld"

// Look finds what Services may suffer from. It changes nothing.
func Look() ([]Finding, error) {
	walls, err := firewalls()
	if err != nil {
		return nil, err
	}
	var all []Finding
	for _, w := range walls {
		if w.drops {
			all = append(all, w.finding())
		}
	}
	legacy, err := legacyFirewalls()
	if err != nil {
		return nil, err
	}
	bridges, err := bridges()
	if err != nil {
		return nil, err
	}
	return slices.Concat(all, legacy, bridges), nil
}

// wall is somebody's chain that packets of Services pass.
type wall struct {
	table *nftables.Table
	chain string
	input bool             // else forward
	drops bool             // what nobody accepted
	ours  []*nftables.Rule // Integration's
}

func (w wall) where() string {
	return fmt.Sprintf("chain %s of nftables table %s %s", w.chain, familyName(w.table.Family), w.table.Name)
}

func (w wall) finding() Finding {
	if len(w.ours) > 0 {
		return Finding{w.where(), "drops by policy; --firewall-integration has put in rules that accept Services"}
	}
	if w.input {
		return Finding{w.where(), "drops by policy, and new connections to Services pass here. Start with --firewall-integration, or accept packets to the service CIDRs and to NodePorts"}
	}
	return Finding{w.where(), "drops by policy, and what pods send and answer passes here. Start with --firewall-integration, or accept established connections and packets with mark 0x4000/0x4000"}
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	}
	return fmt.Sprintf("family-%d", f)
}

// firewalls lists the chains in hooks input and forward, with Integration's
// rules in them.
func firewalls() ([]wall, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("connect to nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var walls []wall
	for _, ch := range chains {
		w, ok := asWall(ch)
		if !ok {
			continue
		}
		rules, err := c.GetRules(w.table, ch)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s: %w", w.where(), err)
		}
		w.ours = slices.DeleteFunc(rules, func(r *nftables.Rule) bool { return !isOurs(r) })
		walls = append(walls, w)
	}
	return walls, nil
}

// asWall reports whether packets of Services pass a chain, and what it does
// to them. firewalld's accept by policy and reject with their last rule.
func asWall(ch *nftables.Chain) (wall, bool) {
	ip := ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyIPv6 || ch.Table.Family == nftables.TableFamilyINet
	if !ip || ch.Hooknum == nil || ch.Type != nftables.ChainTypeFilter || (ch.Table.Name == ownTable && ch.Table.Family == nftables.TableFamilyINet) {
		return wall{}, false
	}
	input, forward := *ch.Hooknum == *nftables.ChainHookInput, *ch.Hooknum == *nftables.ChainHookForward
	drops := ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
	drops = drops || ch.Table.Name == firewalld && (ch.Name == "filter_INPUT" || ch.Name == "filter_FORWARD")
	return wall{table: ch.Table, chain: ch.Name, input: input, drops: drops}, input || forward
}

// legacyFirewalls are policies of iptables-legacy, which only its own program
// can change.
func legacyFirewalls() ([]Finding, error) {
	const table = "filter"
	var all []Finding
	for _, f := range xtables.Families() {
		used, err := f.Tables()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(used, table) {
			continue
		}
		content, err := f.Read(table)
		if err != nil {
			return nil, err
		}
		program := "iptables-legacy"
		if f.Name == "ip6" {
			program = "ip6tables-legacy"
		}
		for _, chain := range content.Drops {
			where := fmt.Sprintf("chain %s of %s's table filter", chain, program)
			switch chain {
			case "INPUT":
				all = append(all, Finding{where, fmt.Sprintf("drops by policy, and new connections to Services pass here: `%s -I INPUT -d SERVICE-CIDR -j ACCEPT` and `%[1]s -I INPUT -m mark --mark 0x4000/0x4000 -j ACCEPT` let them in", program)})
			case "FORWARD":
				all = append(all, Finding{where, fmt.Sprintf("drops by policy, and what pods send and answer passes here: `%s -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT` and `%[1]s -I FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT` let it through", program)})
			}
		}
	}
	return all, nil
}
