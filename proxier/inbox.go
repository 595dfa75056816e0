// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"sync"
	"time"
)

// Inbox collects what changed until the [Proxier] takes it. Of several
// versions of one object only the last counts, so a burst of updates costs
// one. Safe for concurrent use.
type Inbox struct {
	mu       sync.Mutex
	services map[Name]*Service // nil is deleted
	slices   map[Name]*Slice   // nil is deleted
	cidrs    map[string][]netip.Prefix
	node     *Node
	local    []netip.Addr
	hasLocal bool
	synced   bool
	drift    string
	since    time.Time
	wake     chan struct{}
}

// NewInbox returns an empty Inbox.
func NewInbox() *Inbox {
	return &Inbox{
		services: map[Name]*Service{},
		slices:   map[Name]*Slice{},
		cidrs:    map[string][]netip.Prefix{},
		wake:     make(chan struct{}, 1),
	}
}

func (b *Inbox) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	if b.since.IsZero() {
		b.since = time.Now()
	}
	select {
	case b.wake <- struct{}{}:
	default: // already awake
	}
}

// Service tells that a Service is now s.
func (b *Inbox) Service(s Service) { b.change(func() { b.services[s.Name] = &s }) }

// NoService tells that a Service is gone, or not for this proxier.
func (b *Inbox) NoService(n Name) { b.change(func() { b.services[n] = nil }) }

// Slice tells that an EndpointSlice is now s.
func (b *Inbox) Slice(s Slice) { b.change(func() { b.slices[s.Name] = &s }) }

// NoSlice tells that an EndpointSlice is gone.
func (b *Inbox) NoSlice(n Name) { b.change(func() { b.slices[n] = nil }) }

// ServiceCIDR tells the prefixes of a ServiceCIDR object; nil is gone.
func (b *Inbox) ServiceCIDR(object string, p []netip.Prefix) {
	b.change(func() { b.cidrs[object] = p })
}

// Node tells what this node is.
func (b *Inbox) Node(n Node) { b.change(func() { b.node = &n }) }

// LocalAddresses tells which addresses this host has.
func (b *Inbox) LocalAddresses(a []netip.Addr) {
	b.change(func() { b.local, b.hasLocal = a, true })
}

// Synced tells that every object of the API was told once. Nothing is
// applied before: a half list would look like deleted Services.
func (b *Inbox) Synced() { b.change(func() { b.synced = true }) }

// Drift tells that somebody else changed the kernel, and how that was seen.
func (b *Inbox) Drift(what string) { b.change(func() { b.drift = what }) }

// batch is what one pass is about.
type batch struct {
	synced    bool
	drift     string
	since     time.Time // of the oldest change
	triggered []time.Time
	services  int
	slices    int
}

// moveTo empties the Inbox into m.
func (b *Inbox) moveTo(m *Model) batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := batch{synced: b.synced, drift: b.drift, since: b.since, services: len(b.services), slices: len(b.slices)}
	for name, s := range b.services {
		if s == nil {
			m.DeleteService(name)
		} else {
			m.SetService(*s)
		}
	}
	for name, s := range b.slices {
		if s == nil {
			m.DeleteSlice(name)
			continue
		}
		m.SetSlice(*s)
		if !s.Triggered.IsZero() {
			out.triggered = append(out.triggered, s.Triggered)
		}
	}
	for object, prefixes := range b.cidrs {
		m.SetServiceCIDR(object, prefixes)
	}
	if b.node != nil {
		m.SetNode(*b.node)
	}
	if b.hasLocal {
		m.SetLocalAddresses(b.local)
	}
	clear(b.services)
	clear(b.slices)
	clear(b.cidrs)
	b.node, b.local, b.hasLocal, b.drift, b.since = nil, nil, false, "", time.Time{}
	return out
}
