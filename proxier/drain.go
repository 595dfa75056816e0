// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// RealServer names one real server of one virtual server.
type RealServer struct {
	Frontend Frontend
	Addr     netip.AddrPort
}

// drains remembers since when each real server takes no new connections. The
// kernel does not record it: after a restart the time starts anew.
type drains map[RealServer]time.Time

// frontends are those with real servers that drain, each once.
func (d drains) frontends() []Frontend {
	set := map[Frontend]struct{}{}
	for r := range d {
		set[r.Frontend] = struct{}{}
	}
	return slices.Collect(maps.Keys(set))
}

// follow brings d up to date with the kernel after some frontends changed.
func (d drains) follow(have, want State, frontends map[Frontend]struct{}, now time.Time) {
	for r := range d {
		if _, touched := frontends[r.Frontend]; touched && !draining(have, want, r) {
			delete(d, r)
		}
	}
	for f := range frontends {
		for _, dest := range have.Servers[f].Dests {
			r := RealServer{f, dest.Addr}
			if _, known := d[r]; !known && draining(have, want, r) {
				d[r] = now
			}
		}
	}
}

// draining reports whether r stays in the kernel only for its connections.
func draining(have, want State, r RealServer) bool {
	server, wanted := want.Servers[r.Frontend]
	if !wanted {
		return false // foreign, or about to be deleted as a whole
	}
	if _, used := find(server.Dests, r.Addr); used {
		return false
	}
	dest, there := find(have.Servers[r.Frontend].Dests, r.Addr)
	return there && dest.Weight == 0
}

func find(list []Dest, addr netip.AddrPort) (Dest, bool) {
	at, ok := slices.BinarySearchFunc(list, Dest{Addr: addr}, compareDest)
	if !ok {
		return Dest{}, false
	}
	return list[at], true
}

// Drain says when real servers that take no new connections are removed.
type Drain struct {
	Cap  time.Duration // at the latest after this
	Most int           // the longest draining go at once when there are more
}

// reap plans the removal of the real servers that are done draining. conns
// are the connections of each, as the kernel counts them.
func (d drains) reap(conns map[RealServer]int, rule Drain, now time.Time) Plan {
	var p Plan
	waiting := make([]RealServer, 0, len(d))
	for r, since := range d {
		if conns[r] == 0 || now.Sub(since) >= rule.Cap {
			p.Servers = append(p.Servers, removal(r))
		} else {
			waiting = append(waiting, r)
		}
	}
	slices.SortFunc(waiting, func(a, b RealServer) int { return d[a].Compare(d[b]) })
	for len(waiting) > rule.Most {
		p.Servers = append(p.Servers, removal(waiting[0]))
		waiting = waiting[1:]
	}
	slices.SortFunc(p.Servers, func(a, b ServerChange) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), compareDest(a.Dest, b.Dest))
	})
	return p
}

func removal(r RealServer) ServerChange {
	return ServerChange{Verb: DelDest, Frontend: r.Frontend, Dest: Dest{Addr: r.Addr}}
}
