// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"
)

// Apply does to s what p would do to a kernel in state s. A change that does
// not fit (a server added twice, a real server without its server) is an
// error and leaves s half changed.
func (s State) Apply(p Plan) error {
	for _, c := range p.Before {
		s.applySet(c)
	}
	for _, c := range p.Routes {
		if c.Del {
			delete(s.Routes, c.Prefix)
		} else {
			s.Routes[c.Prefix] = c.Source
		}
	}
	for _, c := range p.Servers {
		if err := s.ApplyServer(c); err != nil {
			return err
		}
	}
	for _, c := range p.After {
		s.applySet(c)
	}
	return nil
}

func (s State) applySet(c SetChange) {
	if c.Del {
		delete(s.Elements, c.Element)
	} else {
		s.Elements[c.Element] = struct{}{}
	}
}

// ApplyServer is [State.Apply] for one change.
func (s State) ApplyServer(c ServerChange) error {
	server, ok := s.Servers[c.Frontend]
	if ok == (c.Verb == AddServer) {
		return fmt.Errorf("%s: server exists: %t", c, ok)
	}
	switch c.Verb {
	case AddServer:
		s.Servers[c.Frontend] = Server{Options: c.Options}
		return nil
	case EditServer:
		server.Options = c.Options
		s.Servers[c.Frontend] = server
		return nil
	case DelServer:
		delete(s.Servers, c.Frontend)
		return nil
	}
	return s.applyDest(c, server)
}

func (s State) applyDest(c ServerChange, server Server) error {
	at, ok := slices.BinarySearchFunc(server.Dests, c.Dest, compareDest)
	if ok == (c.Verb == AddDest) {
		return fmt.Errorf("%s: real server exists: %t", c, ok)
	}
	// Frontends share their lists, so each change makes a new one.
	list := slices.Clone(server.Dests)
	switch c.Verb {
	case AddDest:
		list = slices.Insert(list, at, c.Dest)
	case EditDest:
		list[at] = c.Dest
	case DelDest:
		list = slices.Delete(list, at, at+1)
	default:
		return fmt.Errorf("%s: not a change of a server", c)
	}
	server.Dests = list
	s.Servers[c.Frontend] = server
	return nil
}

// Clone returns a State that can be changed without changing s.
func (s State) Clone() State {
	c := NewState()
	for f, server := range s.Servers {
		c.Servers[f] = server
	}
	for e := range s.Elements {
		c.Elements[e] = struct{}{}
	}
	for p, a := range s.Routes {
		c.Routes[p] = a
	}
	return c
}
