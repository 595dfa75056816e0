// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/walk"
)

// EnvFlows names the file to which a hook appends a [Flow] per line, as JSON.
const EnvFlows = "MUSTER_ORACLE_FLOWS"

// Flow is one connection, what upstream makes of it and what muster does.
type Flow struct {
	Test     string // of upstream, subtests included
	Probe    bool   // made up here; else it is a row of upstream's table
	Source   netip.Addr
	Dest     netip.AddrPort
	Proto    string
	Own      bool // Source is an address of the node
	Upstream Answer

	// Unallocated tells that no Service has the destination's address.
	Unallocated bool

	Muster Answer
	Why    string // muster's steps
	Agreed int    // instead of all but Test and Probe: how many probes had the same answer
}

// Answer is what becomes of a connection.
type Answer struct {
	To         string // DROP, REJECT, endpoints in order with commas between, or nothing
	Masquerade bool
	First      string // the endpoint that Masquerade is about: a pod that asks itself is masqueraded, others are not
}

func (a Answer) String() string {
	switch {
	case a.To == "":
		return "not ours"
	case a.Masquerade:
		return a.To + ", masqueraded"
	}
	return a.To
}

// Same reports whether upstream and muster agree. Whether a packet that goes
// nowhere is masqueraded has no meaning.
func (f Flow) Same() bool {
	return f.Upstream.To == f.Muster.To && (f.Upstream.Masquerade == f.Muster.Masquerade || !reaches(f.Upstream.To))
}

func (f Flow) String() string {
	return fmt.Sprintf("%s: %s to %s/%s", f.Test, f.Source, f.Dest, f.Proto)
}

func reaches(to string) bool { return to != "" && to != "DROP" && to != "REJECT" }

// Walk fills in muster's answer.
func (f Flow) Walk(c *Cluster, s proxier.State, h walk.Host) Flow {
	f.Proto = cmp.Or(f.Proto, "tcp")
	f.Unallocated = !c.serves(f.Dest.Addr())
	f.Own = slices.Contains(h.Addrs, f.Source)
	out := walk.Walk(s, h, walk.Packet{Source: f.Source, Dest: f.Dest, Proto: protocol(f.Proto)})
	f.Muster = musterAnswer(out, f.Upstream.First)
	var why []string
	for _, step := range out.Steps {
		why = append(why, step.String())
	}
	f.Why = strings.Join(why, "; ")
	return f
}

// UpstreamAnswer reads the output of upstream's tracer.
func UpstreamAnswer(output string, masquerade bool) Answer {
	list := strings.Split(output, ", ")
	a := Answer{Masquerade: masquerade, First: list[0]}
	slices.Sort(list)
	a.To = strings.Join(list, ", ")
	return a
}

// musterAnswer has upstream's form. Upstream's tracer follows the endpoint
// that it meets first.
func musterAnswer(o walk.Outcome, first string) Answer {
	switch o.Verdict {
	case walk.Refused:
		return Answer{To: "REJECT"}
	case walk.Dropped:
		return Answer{To: "DROP"}
	case walk.NotOurs:
		return Answer{}
	}
	var list []string
	for _, e := range o.Endpoints {
		list = append(list, e.Addr.String())
	}
	at := max(0, slices.Index(list, first))
	a := Answer{Masquerade: o.Endpoints[at].Masqueraded, First: list[at]}
	slices.Sort(list)
	a.To = strings.Join(list, ", ")
	return a
}

// protocol reads upstream's lower-case name.
func protocol(name string) proxier.Protocol {
	switch name {
	case "udp":
		return proxier.UDP
	case "sctp":
		return proxier.SCTP
	}
	return proxier.TCP
}
