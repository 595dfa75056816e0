// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
)

// choice is the endpoints a Service port may use from one node.
type choice struct {
	cluster   []Dest // Cluster policy
	local     []Dest // Local policy
	reachable bool   // some endpoint could serve, on this node or another
	hairpins  []netip.Addr
	here      []netip.Addr // ready ones on this node
}

// candidate is an endpoint with its port, after all slices were merged.
type candidate struct {
	Endpoint
	port uint16
}

// choose picks the endpoints for one port and address family.
//
// Cluster policy takes what is ready and hinted for here; Local what is ready
// and here. Where nothing is ready, each falls back to endpoints that
// terminate but still serve, so that the last pods of a rollout answer until
// they are gone (KEP 1669).
func choose(all []candidate, node, zone string, tuning Tuning) choice {
	hinted := hints(all, node, zone)
	isReady := func(c candidate) bool { return c.Ready }
	isLeaving := func(c candidate) bool { return c.Serving && c.Terminating }
	isLocal := func(c candidate) bool { return node != "" && c.Node == node }

	cluster := filter(all, isReady, hinted)
	if len(cluster) == 0 {
		cluster = filter(all, isLeaving)
	}
	local := filter(all, isReady, isLocal)
	if len(local) == 0 {
		local = filter(all, isLeaving, isLocal)
	}
	weight := func(c candidate) uint32 { return tuning.weight(c.Endpoint, node) }
	c := choice{cluster: dests(cluster, weight), local: dests(local, weight), reachable: len(cluster) > 0}
	for _, e := range slices.Concat(filter(cluster, isLocal), local) {
		c.hairpins = append(c.hairpins, e.Addr)
	}
	for _, e := range filter(all, isReady, isLocal) {
		c.here = append(c.here, e.Addr)
	}
	return c
}

func filter(all []candidate, tests ...func(candidate) bool) []candidate {
	var kept []candidate
next:
	for _, c := range all {
		for _, test := range tests {
			if !test(c) {
				continue next
			}
		}
		kept = append(kept, c)
	}
	return kept
}

// hints returns the test an endpoint has to pass because of topology. Hints
// are followed only when every ready endpoint carries one and one of them
// names this node or zone; node hints come before zone hints (KEP 3015).
func hints(all []candidate, node, zone string) func(candidate) bool {
	anywhere := func(candidate) bool { return true }
	everyNode, everyZone, forNode, forZone := true, true, false, false
	for _, c := range all {
		if !c.Ready {
			continue
		}
		everyNode = everyNode && len(c.ForNodes) > 0
		everyZone = everyZone && len(c.ForZones) > 0
		forNode = forNode || slices.Contains(c.ForNodes, node)
		forZone = forZone || slices.Contains(c.ForZones, zone)
	}
	switch {
	case everyNode && forNode:
		return func(c candidate) bool { return slices.Contains(c.ForNodes, node) }
	case everyZone && forZone:
		return func(c candidate) bool { return slices.Contains(c.ForZones, zone) }
	}
	return anywhere
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
