// SPDX-License-Identifier: Apache-2.0

// Package walk answers what would happen to a connection: it follows the
// first packet of one through a [proxier.State], hook by hook, as the rules
// of proxier/kernel and IPVS treat it. It touches nothing, so it serves both
// the question "where does this go, and why" and the tests that compare the
// proxier with others.
package walk

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-project/muster/proxier"
)

// Packet is the first packet of a connection.
type Packet struct {
	Source    netip.Addr
	Dest      netip.AddrPort
	Proto     proxier.Protocol
	Interface string // where it came in; matters only where interfaces tell pods from others
}

func (p Packet) String() string { return fmt.Sprintf("%s to %s/%s", p.Source, p.Dest, p.Proto) }

// Host is what a State leaves to the machine and its configuration.
type Host struct {
	Addrs         []netip.Addr // every address of the machine; a packet from one of them is its own
	DetectLocal   proxier.DetectLocal
	MasqueradeAll bool
}

// Verdict is what becomes of a connection.
type Verdict uint8

// The verdicts.
const (
	NotOurs  Verdict = iota // no rule and no virtual server: it goes on as if there were no proxier
	Balanced                // one of [Outcome.Endpoints] gets it
	Refused                 // the client is told so
	Dropped                 // the client is told nothing
)

func (v Verdict) String() string {
	names := [...]string{"not ours", "balanced", "refused", "dropped"}
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("verdict-%d", uint8(v))
}

// Outcome is a verdict with its reasons.
type Outcome struct {
	Verdict   Verdict
	Server    proxier.Frontend // of Balanced: the virtual server, after a split another than the destination
	Endpoints []Endpoint       // of Balanced, by address
	Steps     []Step           // what was decided on the way, in order
}

// String is the verdict, or the endpoints if there are any.
func (o Outcome) String() string {
	if o.Verdict != Balanced {
		return o.Verdict.String()
	}
	var list []string
	for _, e := range o.Endpoints {
		list = append(list, e.String())
	}
	return strings.Join(list, ", ")
}

// Endpoint is a real server that may get the connection.
type Endpoint struct {
	Addr        netip.AddrPort
	Masqueraded bool // it sees an address of this host instead of the client's
}

func (e Endpoint) String() string {
	if e.Masqueraded {
		return e.Addr.String() + " masqueraded"
	}
	return e.Addr.String()
}

// Step is one decision.
type Step struct {
	Hook string // where in the kernel
	Text string // what it was, and because of what
}

func (s Step) String() string { return s.Hook + ": " + s.Text }

// Walk follows p through s on host h.
func Walk(s proxier.State, h Host, p Packet) Outcome {
	w := walker{state: s, packet: p, own: slices.Contains(h.Addrs, p.Source), host: h}
	for _, stage := range []func(*walker) bool{ranges, turnAway, mark, split, capture, deliver, refuse, balance} {
		if stage(&w) {
			break
		}
	}
	masquerade(&w)
	return w.out
}

// walker is a packet on its way. Stages report whether its way ends.
type walker struct {
	state    proxier.State
	host     Host
	packet   Packet // the split changes its destination
	own      bool   // the host's own, so it passes output and not prerouting
	captured bool   // marked for the route to here
	marked   bool   // marked for masquerading
	split    bool
	out      Outcome
}

func (w *walker) frontend() proxier.Frontend {
	return proxier.Frontend{Addr: w.packet.Dest, Proto: w.packet.Proto}
}

// in reports whether the packet's destination is in a set of frontends.
func (w *walker) in(s proxier.Set) bool {
	return w.state.Has(proxier.FrontendElement(s, w.frontend()))
}

func (w *walker) step(hook, format string, args ...any) {
	w.out.Steps = append(w.out.Steps, Step{Hook: hook, Text: fmt.Sprintf(format, args...)})
}

func (w *walker) end(v Verdict, hook, format string, args ...any) bool {
	w.out.Verdict = v
	w.step(hook, format, args...)
	return true
}

// entry is the first hook, which depends on where the packet comes from.
func (w *walker) entry() string {
	if w.own {
		return "output"
	}
	return "prerouting"
}
