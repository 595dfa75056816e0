// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols a Service port may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

// Frontend is what a client connects to.
type Frontend struct {
	Addr  netip.AddrPort
	Proto Protocol
}

func (f Frontend) String() string { return f.Addr.String() + "/" + f.Proto.String() }

// Compare orders frontends by address, port and protocol.
func (f Frontend) Compare(g Frontend) int {
	return cmp.Or(f.Addr.Compare(g.Addr), cmp.Compare(f.Proto, g.Proto))
}

// Flags are the IP_VS_SVC_F_* bits of a virtual server.
type Flags uint32

// The flags in use. Their values are the kernel's (linux/ip_vs.h).
const (
	FlagPersistent Flags = 0x01 // ClientIP affinity
	FlagSched1     Flags = 0x08 // mh and sh: a real server that takes no connections is passed over
	FlagSched2     Flags = 0x10 // mh and sh: the client's port counts too
)

// Options are the settings of a virtual server.
type Options struct {
	Scheduler string // kernel name: rr, mh, ...
	Flags     Flags
	Timeout   uint32 // of the affinity, in seconds; 0 without FlagPersistent
}

// Dest is a real server of a virtual server. Weight 0 takes no new
// connections and keeps those it has.
type Dest struct {
	Addr   netip.AddrPort
	Weight uint32
}

// Server is a virtual server. Dests are sorted by address and never changed
// in place: frontends of the same Service port share them.
type Server struct {
	Options
	Dests []Dest
}

// Set names one of the packet filter's sets.
type Set uint8

// The sets. What each does to packets is written beside the rules, in
// proxier/kernel.
const (
	SetOwned        Set = iota // frontends whose virtual server is ours, complete or not
	SetFrontends               // complete frontends; the rest of the service CIDRs is refused
	SetCapture                 // frontends on addresses that are not this host's
	SetMasquerade              // frontends whose clients may be off the cluster
	SetDrop                    // Local policy, and the endpoints are elsewhere
	SetRefused                 // frontends without any endpoint
	SetRestricted              // frontends with source ranges
	SetAllowed                 // sources that may use them
	SetSplit                   // external Local policy: where clients inside the cluster are led instead
	SetTargets                 // the places they are led to, open to nobody else by themselves
	SetHairpin                 // local endpoints, which may be their own client
	SetServiceCIDRs            // prefixes routed to this host
	SetPodCIDRs                // sources that reach any pod unchanged; everybody where pods are not known
	SetInside                  // sources that are known to be pods
	numSets
)

// Sets lists every set.
func Sets() []Set {
	all := make([]Set, numSets)
	for i := range all {
		all[i] = Set(i)
	}
	return all
}

func (s Set) String() string {
	names := [numSets]string{"owned", "frontends", "capture", "masquerade", "drop", "refused", "restricted", "allowed", "split", "targets",
		"hairpin", "service-cidrs", "pod-cidrs", "inside"}
	if s < numSets {
		return names[s]
	}
	return fmt.Sprintf("set-%d", uint8(s))
}

// HoldsPrefixes tells sets of prefixes from sets of frontends and addresses.
func (s Set) HoldsPrefixes() bool { return s >= SetServiceCIDRs }

// HoldsFrontends tells sets whose elements are a frontend and nothing more.
func (s Set) HoldsFrontends() bool { return s < SetHairpin && s != SetAllowed && s != SetSplit }

// Element is one element of a set. Port and Proto are zero in sets that hold
// addresses or prefixes. Peer is the source in SetAllowed, and with PeerPort
// the destination in SetSplit; elsewhere it is zero.
type Element struct {
	Prefix   netip.Prefix
	Peer     netip.Prefix
	Port     uint16
	PeerPort uint16
	Proto    Protocol
	Set      Set
}

// FrontendElement is f as an element of a set of frontends.
func FrontendElement(s Set, f Frontend) Element {
	return Element{Set: s, Prefix: hostPrefix(f.Addr.Addr()), Port: f.Addr.Port(), Proto: f.Proto}
}

// AllowedElement lets a source use a restricted frontend.
func AllowedElement(f Frontend, source netip.Prefix) Element {
	e := FrontendElement(SetAllowed, f)
	e.Peer = source
	return e
}

// SplitElement leads clients of f that are inside the cluster to another
// address.
func SplitElement(f Frontend, to netip.AddrPort) Element {
	e := FrontendElement(SetSplit, f)
	e.Peer, e.PeerPort = hostPrefix(to.Addr()), to.Port()
	return e
}

// Frontend is the inverse of [FrontendElement].
func (e Element) Frontend() Frontend {
	return Frontend{Addr: netip.AddrPortFrom(e.Prefix.Addr(), e.Port), Proto: e.Proto}
}

// Target is where an element of SetSplit leads to.
func (e Element) Target() netip.AddrPort { return netip.AddrPortFrom(e.Peer.Addr(), e.PeerPort) }

func (e Element) String() string {
	switch {
	case e.Set == SetAllowed:
		return fmt.Sprintf("%s %s from %s", e.Set, e.Frontend(), e.Peer)
	case e.Set == SetSplit:
		return fmt.Sprintf("%s %s to %s", e.Set, e.Frontend(), e.Target())
	case e.Proto != 0:
		return fmt.Sprintf("%s %s", e.Set, e.Frontend())
	}
	return fmt.Sprintf("%s %s", e.Set, e.Prefix)
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// State is a whole data plane, wanted or found.
type State struct {
	Servers  map[Frontend]Server
	Elements map[Element]struct{}
	Routes   map[netip.Prefix]netip.Addr // local routes, and the source address each prefers
}

// NewState returns an empty State that can be added to.
func NewState() State {
	return State{
		Servers:  map[Frontend]Server{},
		Elements: map[Element]struct{}{},
		Routes:   map[netip.Prefix]netip.Addr{},
	}
}

// Has reports whether e is in its set.
func (s State) Has(e Element) bool {
	_, ok := s.Elements[e]
	return ok
}

// Owns reports whether the virtual server of f is ours to delete. Servers
// inside a prefix that we route are ours even when the packet filter was
// flushed and forgot them.
func (s State) Owns(f Frontend) bool {
	if s.Has(FrontendElement(SetOwned, f)) {
		return true
	}
	for prefix := range s.Routes {
		if prefix.Contains(f.Addr.Addr()) {
			return true
		}
	}
	return false
}

// String prints the State sorted, one line per object.
func (s State) String() string {
	var lines []string
	for prefix, src := range s.Routes {
		lines = append(lines, fmt.Sprintf("route %s src %s", prefix, src))
	}
	for e := range s.Elements {
		lines = append(lines, "set "+e.String())
	}
	slices.Sort(lines)
	for _, f := range slices.SortedFunc(maps.Keys(s.Servers), Frontend.Compare) {
		server := s.Servers[f]
		line := fmt.Sprintf("server %s %s", f, server.Scheduler)
		if server.Flags != 0 || server.Timeout != 0 {
			line += fmt.Sprintf(" flags %#x timeout %ds", uint32(server.Flags), server.Timeout)
		}
		for _, d := range server.Dests {
			line += fmt.Sprintf(" %s=%d", d.Addr, d.Weight)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
