// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Config is what a person decides.
type Config struct {
	Node        string         // name of this node
	Scheduler   string         // of every virtual server that does not ask for another; empty is rr
	DetectLocal DetectLocal    // which sources are pods
	NodePorts   []netip.Prefix // which local addresses serve NodePorts; empty is the node's primary ones
}

// DetectLocal says how a pod is known by its packets: by their source address
// or by the interface they come from. Nobody counts as outside where nothing
// is said.
type DetectLocal struct {
	CIDRs           []netip.Prefix // addresses of the cluster's pods
	NodeCIDRs       bool           // addresses of this node's pods, as its Node says
	Interface       string         // the bridge that this node's pods are behind
	InterfacePrefix string         // how the names of this node's pods' interfaces begin
}

// ByInterface reports whether addresses say nothing.
func (d DetectLocal) ByInterface() bool { return d.Interface != "" || d.InterfacePrefix != "" }

// Node is what the proxier needs to know of its own Node.
type Node struct {
	Zone     string
	Addrs    []netip.Addr   // primary addresses, at most one per family
	PodCIDRs []netip.Prefix // from which this node's pods get their addresses
}

// Model keeps the State that the kernel should hold. Not safe for concurrent
// use; [Proxier] owns one.
type Model struct {
	config   Config
	node     Node
	local    []netip.Addr
	cidrs    map[string][]netip.Prefix // by ServiceCIDR object
	services map[Name]Service
	slices   map[Name]map[Name]Slice // by Service
	owner    map[Name]Name           // Service of each slice

	made     map[Name]made // what each Service added to want
	claims   map[Frontend][]claim
	elements map[Element]int // holders of each element that several may hold
	prefixes map[netip.Prefix]int
	base     []netip.Prefix // service CIDRs in force
	pods     []Element      // pod CIDRs in force
	health   map[uint16]HealthCheck

	healthChanged bool

	dirty    map[Name]struct{}
	allDirty bool
	want     State
	touched  Touched
}

// made is what one Service holds.
type made struct {
	frontends []Frontend
	elements  []Element
	prefixes  []netip.Prefix
	health    HealthCheck
}

// NewModel returns a Model without any object.
func NewModel(config Config) *Model {
	config.Scheduler = cmp.Or(config.Scheduler, "rr")
	m := &Model{
		config:   config,
		cidrs:    map[string][]netip.Prefix{},
		services: map[Name]Service{},
		slices:   map[Name]map[Name]Slice{},
		owner:    map[Name]Name{},
		made:     map[Name]made{},
		claims:   map[Frontend][]claim{},
		elements: map[Element]int{},
		prefixes: map[netip.Prefix]int{},
		health:   map[uint16]HealthCheck{},
		dirty:    map[Name]struct{}{},
		want:     NewState(),
		touched:  NewTouched(),
	}
	m.holdPods()
	return m
}

// holdPods puts the pods' addresses in force.
func (m *Model) holdPods() {
	var configured []netip.Prefix
	switch d := m.config.DetectLocal; {
	case d.ByInterface():
	case d.NodeCIDRs:
		configured = m.node.PodCIDRs
	default:
		configured = d.CIDRs
	}
	var pods []Element
	for _, p := range podCIDRs(configured) {
		pods = append(pods, Element{Set: SetPodCIDRs, Prefix: p})
	}
	for _, p := range outermost(configured) {
		pods = append(pods, Element{Set: SetInside, Prefix: p})
	}
	for _, e := range pods {
		m.hold(e)
	}
	for _, e := range m.pods {
		m.release(e)
	}
	m.pods = pods
}

// podCIDRs stands in for a family nobody configured with all addresses: then
// no source is outside, and nothing is masqueraded for coming from there.
func podCIDRs(configured []netip.Prefix) []netip.Prefix {
	list := slices.Clone(configured)
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		all := netip.MustParsePrefix(all)
		if !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr().Is4() == all.Addr().Is4() }) {
			list = append(list, all)
		}
	}
	return outermost(list)
}

// Want is the State the kernel should hold. It is the Model's own and changes
// with the next [Model.Update].
func (m *Model) Want() State { return m.want }

// Ready reports whether the node's address is known; before that nothing can
// be planned.
func (m *Model) Ready() bool { return len(m.node.Addrs) > 0 }

// SetService adds or replaces a Service.
func (m *Model) SetService(s Service) {
	m.services[s.Name] = s
	m.dirty[s.Name] = struct{}{}
}

// DeleteService forgets a Service.
func (m *Model) DeleteService(name Name) {
	delete(m.services, name)
	m.dirty[name] = struct{}{}
}

// SetSlice adds or replaces an EndpointSlice.
func (m *Model) SetSlice(s Slice) {
	if old, ok := m.owner[s.Name]; ok && old != s.Service {
		m.DeleteSlice(s.Name)
	}
	m.owner[s.Name] = s.Service
	if m.slices[s.Service] == nil {
		m.slices[s.Service] = map[Name]Slice{}
	}
	m.slices[s.Service][s.Name] = s
	m.dirty[s.Service] = struct{}{}
}

// DeleteSlice forgets an EndpointSlice.
func (m *Model) DeleteSlice(name Name) {
	service, ok := m.owner[name]
	if !ok {
		return
	}
	delete(m.owner, name)
	delete(m.slices[service], name)
	if len(m.slices[service]) == 0 {
		delete(m.slices, service)
	}
	m.dirty[service] = struct{}{}
}

// SetNode says what this node is. Without an address the last one known
// stays in force: a Node may lose its addresses while it is registered anew.
func (m *Model) SetNode(n Node) {
	if len(n.Addrs) == 0 {
		n.Addrs = m.node.Addrs
	}
	changed := m.node.Zone != n.Zone || !slices.Equal(m.node.Addrs, n.Addrs)
	moved := !slices.Equal(m.node.PodCIDRs, n.PodCIDRs)
	m.node = n
	m.allDirty = m.allDirty || changed
	if moved {
		m.holdPods()
	}
}

// SetLocalAddresses says which addresses this host has. It matters only when
// [Config.NodePorts] chooses among them.
func (m *Model) SetLocalAddresses(addrs []netip.Addr) {
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	if len(m.config.NodePorts) > 0 && !slices.Equal(m.local, addrs) {
		m.local = addrs
		m.allDirty = true
	}
}

// SetServiceCIDR adds or replaces the prefixes of a ServiceCIDR object; nil
// deletes it.
func (m *Model) SetServiceCIDR(object string, prefixes []netip.Prefix) {
	if slices.Equal(m.cidrs[object], prefixes) {
		return
	}
	if prefixes == nil {
		delete(m.cidrs, object)
	} else {
		m.cidrs[object] = prefixes
	}
	m.allDirty = true
}

// nodePortAddrs are the addresses that serve NodePorts.
func (m *Model) nodePortAddrs() []netip.Addr {
	if len(m.config.NodePorts) == 0 {
		return m.node.Addrs
	}
	var chosen []netip.Addr
	for _, a := range m.local {
		if slices.ContainsFunc(m.config.NodePorts, func(p netip.Prefix) bool { return p.Contains(a) }) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// options are those of every virtual server of s.
func (m *Model) options(s Service) Options {
	o := Options{Scheduler: cmp.Or(s.Tuning.Scheduler, m.config.Scheduler)}
	switch {
	case s.Tuning.HasFlags:
		o.Flags = s.Tuning.Flags
	case o.Scheduler == "mh":
		o.Flags = FlagSched2 // else all connections of one client go to one endpoint
	}
	if s.Affinity > 0 {
		o.Flags |= FlagPersistent
		o.Timeout = uint32(s.Affinity.Seconds())
	}
	return o
}

// outermost drops prefixes that lie inside others, and duplicates.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	set := map[netip.Prefix]struct{}{}
	for _, p := range prefixes {
		set[p.Masked()] = struct{}{}
	}
	var out []netip.Prefix
	for _, p := range slices.SortedFunc(maps.Keys(set), comparePrefix) {
		// Sorted, a containing prefix comes before those it contains.
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}
