// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"slices"
)

// layout is one table of iptables: kube-proxy's chains in it, and the others
// with what they lead to.
type layout struct {
	own    []string
	others []otherChain
}

type otherChain struct {
	name  string
	base  bool // packets come here by themselves
	drops bool // by policy
	jumps []Jump
}

// report adds what can go to r.
//
// A rule in a base chain that leads into a chain of kube-proxy is its own. One
// in any other chain is somebody else's who uses kube-proxy's chains, as
// managers of host ports use KUBE-MARK-MASQ: such a chain stays.
//
// KUBE-FORWARD stays where the policy of FORWARD is to drop: it accepts the
// packets of established connections and those marked for masquerading, which
// its successor's connections need as much.
func (l layout) report(r *Remains, table Table) {
	for _, o := range l.others {
		for _, j := range o.jumps {
			if !slices.Contains(l.own, j.To) {
				continue
			}
			if o.drops && j.To == forwarding {
				r.need(Chain{table, j.To}, fmt.Sprintf("the policy of chain %s is to drop, and %s accepts what Services need", o.name, j.To))
			} else if !o.base {
				r.need(Chain{table, j.To}, fmt.Sprintf("chain %s, which is not kube-proxy's, leads to it", o.name))
			}
		}
	}
	for _, o := range l.others {
		for _, j := range o.jumps {
			if _, stays := r.Needed[Chain{table, j.To}]; !stays && slices.Contains(l.own, j.To) {
				r.Jumps = append(r.Jumps, j)
			}
		}
	}
	for _, name := range l.own {
		if _, stays := r.Needed[Chain{table, name}]; !stays {
			r.Chains = append(r.Chains, Chain{table, name})
		}
	}
}

func (r *Remains) need(c Chain, why string) {
	if r.Needed == nil {
		r.Needed = map[Chain]string{}
	}
	if _, known := r.Needed[c]; !known {
		r.Needed[c] = why
	}
}
