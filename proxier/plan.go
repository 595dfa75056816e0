// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"strings"
)

// Verb is what is done to a virtual server or to one of its real servers.
type Verb uint8

// The verbs.
const (
	AddServer Verb = iota + 1
	EditServer
	DelServer // its real servers go with it
	AddDest
	EditDest
	DelDest
)

func (v Verb) String() string {
	names := [...]string{"no verb", "add server", "edit server", "delete server", "add dest", "edit dest", "delete dest"}
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("verb-%d", uint8(v))
}

// ServerChange is one change in IPVS. Options matter to AddServer and
// EditServer, Dest to the other verbs but DelServer.
type ServerChange struct {
	Verb     Verb
	Frontend Frontend
	Options  Options
	Dest     Dest
}

func (c ServerChange) String() string {
	switch c.Verb {
	case AddServer, EditServer:
		return fmt.Sprintf("%s %s %s flags %#x timeout %ds", c.Verb, c.Frontend, c.Options.Scheduler, uint32(c.Options.Flags), c.Options.Timeout)
	case DelServer:
		return fmt.Sprintf("%s %s", c.Verb, c.Frontend)
	default:
		return fmt.Sprintf("%s %s %s=%d", c.Verb, c.Frontend, c.Dest.Addr, c.Dest.Weight)
	}
}

// SetChange adds an element to its set or removes it.
type SetChange struct {
	Element Element
	Del     bool
}

func (c SetChange) String() string { return verb(c.Del) + " " + c.Element.String() }

// RouteChange makes a prefix local with a preferred source address, or stops
// that.
type RouteChange struct {
	Prefix netip.Prefix
	Source netip.Addr
	Del    bool
}

func (c RouteChange) String() string {
	return fmt.Sprintf("%s route %s src %s", verb(c.Del), c.Prefix, c.Source)
}

func verb(del bool) string {
	if del {
		return "delete"
	}
	return "add"
}

// Flows are UDP flows that connection tracking knows, to a frontend. Without a
// Backend they are those that began before there was the frontend and bypass
// it; with one, those that [SetSplit] led there and that IPVS gave to a real
// server which is gone.
type Flows struct {
	Frontend Frontend
	Backend  netip.AddrPort
}

func (f Flows) String() string {
	if f.Backend.IsValid() {
		return fmt.Sprintf("flows from %s to %s", f.Frontend, f.Backend)
	}
	return "flows past " + f.Frontend.String()
}

// Plan is changes in the order in which they must be made:
//
//  1. Before, in one transaction: who owns what, and nothing new reachable.
//  2. Routes, one after the other.
//  3. Servers, one after the other: what serves more before what serves less.
//  4. After, in one transaction: the new becomes reachable.
//  5. Forget: connection tracking entries of UDP flows that would go on to
//     where they went before.
//
// A process killed anywhere in between leaves a kernel from which the next
// Diff continues.
type Plan struct {
	Before  []SetChange
	Routes  []RouteChange
	Servers []ServerChange
	After   []SetChange
	Forget  []Flows
}

// Len is the number of changes.
func (p *Plan) Len() int {
	return len(p.Before) + len(p.Routes) + len(p.Servers) + len(p.After) + len(p.Forget)
}

// String prints the changes in order, one per line.
func (p *Plan) String() string {
	var b strings.Builder
	for _, c := range p.Before {
		fmt.Fprintln(&b, c)
	}
	for _, c := range p.Routes {
		fmt.Fprintln(&b, c)
	}
	for _, c := range p.Servers {
		fmt.Fprintln(&b, c)
	}
	for _, c := range p.After {
		fmt.Fprintln(&b, c)
	}
	for _, f := range p.Forget {
		fmt.Fprintln(&b, "forget", f)
	}
	return b.String()
}
