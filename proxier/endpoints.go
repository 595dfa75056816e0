// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
)

// choice is the endpoints a Service port may use from one node.
type choice struct {
	cluster   []Dest       // Cluster policy
	local     []Dest       // Local policy
	reachable bool         // some endpoint could serve, on this node or another
	hairpins  []netip.Addr // of local, which has all endpoints of cluster that are on this node
	here      []netip.Addr // ready ones on this node
}

// candidate is an endpoint with its port, after all slices were merged.
type candidate struct {
	Endpoint
	port uint16
}

// choose picks the endpoints for one port and address family.
func choose(all []candidate, node, zone string, tuning Tuning) choice {
	var cluster, local []candidate
	var c choice
	selected := newSelection(all, node, zone)
	for _, e := range all {
		if selected.cluster(e).Used() {
			cluster = append(cluster, e)
		}
		if selected.local(e).Used() {
			local = append(local, e)
			c.hairpins = append(c.hairpins, e.Addr)
		}
		if selected.here(e) && e.Ready {
			c.here = append(c.here, e.Addr)
		}
	}
	weight := func(e candidate) uint32 { return tuning.weight(e.Endpoint, node) }
	c.cluster, c.local, c.reachable = dests(cluster, weight), dests(local, weight), len(cluster) > 0
	return c
}

func dests(from []candidate, weight func(candidate) uint32) []Dest {
	if len(from) == 0 {
		return nil
	}
	list := make([]Dest, len(from))
	for i, c := range from {
		list[i] = Dest{Addr: netip.AddrPortFrom(c.Addr, c.port), Weight: weight(c)}
	}
	slices.SortFunc(list, compareDest)
	return list
}

// merge collects the endpoints of one port and family from all slices of a
// Service. The same address may be in two slices for a moment, and a new pod
// may have the address of one that still terminates: then the one that stays
// is right.
func merge(from map[Name]Slice, port Port, v4 bool) []candidate {
	var all []candidate
	seen := map[netip.AddrPort]int{}
	for _, name := range sortedNames(from) {
		slice := from[name]
		for _, p := range slice.Ports {
			if p.Name != port.Name || p.Proto != port.Proto {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Addr.Is4() != v4 {
					continue
				}
				key := netip.AddrPortFrom(e.Addr, p.Port)
				at, dup := seen[key]
				switch {
				case !dup:
					seen[key] = len(all)
					all = append(all, candidate{Endpoint: e, port: p.Port})
				case !e.Terminating:
					all[at].Endpoint = e
				}
			}
		}
	}
	return all
}
