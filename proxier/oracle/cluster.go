// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/muster-project/muster/proxier"
)

// Event is an object that was made, changed or removed. Of one kind of object
// at least one of the two is set; without a new version it is gone.
type Event struct {
	OldService, Service *corev1.Service
	OldSlice, Slice     *discoveryv1.EndpointSlice
}

// Tell does what muster-proxier does with an event of the API.
func (e Event) Tell(m *proxier.Model) {
	switch {
	case e.Service != nil:
		if s, ok := proxier.ParseService(e.Service); ok {
			m.SetService(s)
		} else {
			m.DeleteService(nameOf(e.Service))
		}
	case e.OldService != nil:
		m.DeleteService(nameOf(e.OldService))
	case e.Slice != nil:
		if s, ok := proxier.ParseSlice(e.Slice); ok {
			m.SetSlice(s)
		} else {
			m.DeleteSlice(nameOf(e.Slice))
		}
	case e.OldSlice != nil:
		m.DeleteSlice(nameOf(e.OldSlice))
	}
}

func nameOf(object interface {
	GetNamespace() string
	GetName() string
}) proxier.Name {
	return proxier.Name{Namespace: object.GetNamespace(), Name: object.GetName()}
}

// Cluster is the objects of the API and the order in which they were told.
// The zero value has none.
type Cluster struct {
	history  []Event
	services map[proxier.Name]*corev1.Service
	slices   map[proxier.Name]*discoveryv1.EndpointSlice
}

// Tell adds an event. Its objects must not change any more.
func (c *Cluster) Tell(e Event) {
	if c.services == nil {
		c.services = map[proxier.Name]*corev1.Service{}
		c.slices = map[proxier.Name]*discoveryv1.EndpointSlice{}
	}
	c.history = append(c.history, e)
	switch {
	case e.Service != nil:
		c.services[nameOf(e.Service)] = e.Service
	case e.OldService != nil:
		delete(c.services, nameOf(e.OldService))
	case e.Slice != nil:
		c.slices[nameOf(e.Slice)] = e.Slice
	case e.OldSlice != nil:
		delete(c.slices, nameOf(e.OldSlice))
	}
}

// Services are those that exist now.
func (c *Cluster) Services() map[proxier.Name]*corev1.Service { return c.services }

// Endpoints are the addresses of one family that slices name on a node.
func (c *Cluster) Endpoints(v4 bool, node string) []netip.Addr {
	var list []netip.Addr
	for _, s := range c.slices {
		parsed, _ := proxier.ParseSlice(s)
		for _, e := range parsed.Endpoints {
			if e.Addr.Is4() == v4 && e.Node == node && !slices.Contains(list, e.Addr) {
				list = append(list, e.Addr)
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// serves reports whether a Service has the address.
func (c *Cluster) serves(a netip.Addr) bool {
	for _, in := range c.services {
		s, ok := proxier.ParseService(in)
		if ok && slices.Contains(slices.Concat(s.ClusterIPs, s.ExternalIPs, s.BalancerIPs), a) {
			return true
		}
	}
	return false
}

// Place is where the objects are seen from.
type Place struct {
	Config       proxier.Config
	Node         proxier.Node
	LocalAddrs   []netip.Addr
	ServiceCIDRs []netip.Prefix
}

// Model sees no object yet.
func (p Place) Model() *proxier.Model {
	m := proxier.NewModel(p.Config)
	m.SetNode(p.Node)
	m.SetLocalAddresses(p.LocalAddrs)
	m.SetServiceCIDR("kubernetes", p.ServiceCIDRs)
	m.Update()
	return m
}

// Want is what the kernel should hold, from the objects that exist now.
func (c *Cluster) Want(p Place) proxier.State {
	m := p.Model()
	for _, s := range c.services {
		Event{Service: s}.Tell(m)
	}
	for _, s := range c.slices {
		Event{Slice: s}.Tell(m)
	}
	m.Update()
	return m.Want()
}

// Replay is Want computed event by event. It is an error if the result is
// another.
func (c *Cluster) Replay(p Place) (proxier.State, error) {
	m := p.Model()
	for _, e := range c.history {
		e.Tell(m)
		m.Update()
	}
	want := c.Want(p)
	if m.Want().String() != want.String() {
		return proxier.State{}, fmt.Errorf("after %d events the state is\n%s\nand from the objects alone\n%s", len(c.history), m.Want(), want)
	}
	return want, nil
}
