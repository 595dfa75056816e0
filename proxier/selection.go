// SPDX-License-Identifier: Apache-2.0

package proxier

import "slices"

// Reason says why an endpoint is used or not.
type Reason uint8

// The reasons. Those up to Leaving are for endpoints that are used.
const (
	Ready      Reason = iota // no topology is followed, or it plays no part
	Hinted                   // ready, and meant for this node or zone
	Leaving                  // it terminates and still serves, and nobody is ready
	NotReady                 // while others are
	Elsewhere                // Local policy, and it is on another node
	NotHinted                // ready, and meant for other nodes or zones
	NotServing               // nobody is ready, and it cannot stand in
)

// Used tells the endpoints that are used from those that are not.
func (r Reason) Used() bool { return r <= Leaving }

func (r Reason) String() string {
	names := [...]string{
		"ready",
		"ready, and its hints name this node or zone",
		"it terminates but still serves, and nobody is ready",
		"not ready, and others are",
		"on another node, and the policy is Local",
		"its hints name other nodes or zones",
		"neither ready nor terminating and still serving",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return "no reason"
}

// Topology says whether the hints of endpoints are followed.
type Topology uint8

// The topologies.
const (
	NoHints     Topology = iota // no ready endpoint has any
	SomeWithout                 // not every ready endpoint has one
	NotForHere                  // none names this node or zone
	ByNode
	ByZone
)

func (t Topology) String() string {
	names := [...]string{
		"no: no ready endpoint has hints",
		"no: not every ready endpoint has hints",
		"no: no hint names this node or zone",
		"yes: hints for nodes",
		"yes: hints for zones",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return "no"
}

// selection is how the endpoints of one port and family are selected from
// one node.
//
// Cluster policy takes what is ready and hinted for here; Local what is ready
// and here. Where nothing is ready, each falls back to endpoints that
// terminate but still serve, so that the last pods of a rollout answer until
// they are gone (KEP 1669).
type selection struct {
	node, zone  string
	topology    Topology
	leaving     bool // nobody is ready
	leavingHere bool // nobody is ready here
}

// newSelection looks at all endpoints. Hints are followed only when every
// ready endpoint carries one and one of them names this node or zone; node
// hints come before zone hints (KEP 3015).
func newSelection(all []candidate, node, zone string) selection {
	s := selection{node: node, zone: zone, leaving: true, leavingHere: true}
	everyNode, everyZone, forNode, forZone, some := true, true, false, false, false
	for _, c := range all {
		if !c.Ready {
			continue
		}
		s.leaving = false
		s.leavingHere = s.leavingHere && !s.here(c)
		everyNode = everyNode && len(c.ForNodes) > 0
		everyZone = everyZone && len(c.ForZones) > 0
		forNode = forNode || slices.Contains(c.ForNodes, node)
		forZone = forZone || slices.Contains(c.ForZones, zone)
		some = some || len(c.ForNodes)+len(c.ForZones) > 0
	}
	switch {
	case everyNode && forNode:
		s.topology = ByNode
	case everyZone && forZone:
		s.topology = ByZone
	case !some:
		s.topology = NoHints
	case !everyNode && !everyZone:
		s.topology = SomeWithout
	default:
		s.topology = NotForHere
	}
	return s
}

func (s selection) here(c candidate) bool { return s.node != "" && c.Node == s.node }

// cluster decides on one endpoint under Cluster policy.
func (s selection) cluster(c candidate) Reason {
	switch {
	case s.leaving:
		return standIn(c)
	case !c.Ready:
		return NotReady
	case s.topology == ByNode && slices.Contains(c.ForNodes, s.node), s.topology == ByZone && slices.Contains(c.ForZones, s.zone):
		return Hinted
	case s.topology == ByNode, s.topology == ByZone:
		return NotHinted
	}
	return Ready
}

// local decides on one endpoint under Local policy.
func (s selection) local(c candidate) Reason {
	switch {
	case !s.here(c):
		return Elsewhere
	case s.leavingHere:
		return standIn(c)
	case !c.Ready:
		return NotReady
	}
	return Ready
}

// standIn decides where nobody is ready.
func standIn(c candidate) Reason {
	if c.Serving && c.Terminating {
		return Leaving
	}
	return NotServing
}
