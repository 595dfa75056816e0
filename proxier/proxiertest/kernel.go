// SPDX-License-Identifier: Apache-2.0

// Package proxiertest has a kernel in memory for tests of the proxier, and
// the suite that it and the real one both pass.
package proxiertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/muster-project/muster/proxier"
)

// ErrCut is what a Kernel says that was cut off, like a process that dies.
var ErrCut = errors.New("cut off")

// Kernel is a [proxier.Kernel] in memory. It refuses what the real one
// refuses, with the same errors. The zero value is a host nobody touched.
// Safe for concurrent use.
type Kernel struct {
	// Watch sees the state after every single change, locked.
	Watch func(proxier.State)

	// Fault may refuse what is asked of the kernel, locked too: "prepare",
	// "read", "probe", "connections", "transaction", or a change of a route or
	// server as it prints. With ENOBUFS, the change of a server is made.
	Fault func(what string) error

	mu       sync.Mutex
	prepared int
	applied  int
	forgot   []proxier.Flows
	state    proxier.State
	conns    map[proxier.RealServer]int
	cut      int // changes until ErrCut; 0 is never
	fail     map[proxier.Verb]error
}

var _ proxier.Kernel = (*Kernel)(nil)

// Prepare implements [proxier.Kernel].
func (k *Kernel) Prepare(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prepared++
	k.init()
	return k.fault("prepare")
}

func (k *Kernel) fault(what string) error {
	if k.Fault == nil {
		return nil
	}
	return k.Fault(what)
}

func (k *Kernel) init() {
	if k.state.Servers == nil {
		k.state = proxier.NewState()
	}
}

// Read implements [proxier.Kernel].
func (k *Kernel) Read(context.Context) (proxier.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.prepared == 0 {
		return proxier.State{}, errors.New("read a kernel that was not prepared")
	}
	if err := k.fault("read"); err != nil {
		return proxier.State{}, err
	}
	return k.state.Clone(), nil
}

// Connections implements [proxier.Kernel].
func (k *Kernel) Connections(_ context.Context, of []proxier.Frontend) (map[proxier.RealServer]int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	conns := maps.Clone(k.conns)
	maps.DeleteFunc(conns, func(r proxier.RealServer, _ int) bool { return !slices.Contains(of, r.Frontend) })
	return conns, k.fault("connections")
}

// Probe implements [proxier.Kernel].
func (k *Kernel) Probe(_ context.Context, frontends []proxier.Frontend) (proxier.Probe, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := proxier.Probe{Servers: map[proxier.Frontend]proxier.Server{}}
	for f := range k.state.Servers {
		if f.Addr.Addr().Is4() {
			out.Count++
		}
	}
	for _, f := range frontends {
		if s, there := k.state.Servers[f]; there {
			out.Servers[f] = s
		}
	}
	return out, k.fault("probe")
}

// Apply implements [proxier.Kernel].
func (k *Kernel) Apply(_ context.Context, p proxier.Plan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	if err := k.transaction(p.Before); err != nil {
		return err
	}
	var faults []error
	for _, c := range p.Routes {
		err := k.route(c)
		if errors.Is(err, ErrCut) {
			return err
		}
		faults = append(faults, err)
	}
	var refused proxier.Refused
	for _, c := range p.Servers {
		if err := k.step(); err != nil {
			return err
		}
		if err := k.server(c); err != nil {
			refused = append(refused, &proxier.ChangeError{Change: c, Err: err})
		}
		k.changed()
	}
	k.forgot = append(k.forgot, p.Forget...)
	if err := errors.Join(append(faults, k.transaction(refused.Spare(p.After)))...); err != nil {
		return errors.Join(err, refused.Err())
	}
	return refused.Err()
}

// step counts one change and cuts off when it is time.
func (k *Kernel) step() error {
	if k.cut == 1 {
		return ErrCut
	}
	if k.cut > 1 {
		k.cut--
	}
	k.applied++
	return nil
}

func (k *Kernel) changed() {
	if k.Watch != nil {
		k.Watch(k.state)
	}
}

func (k *Kernel) transaction(changes []proxier.SetChange) error {
	if len(changes) == 0 {
		return nil
	}
	if err := errors.Join(k.step(), k.fault("transaction")); err != nil {
		return err
	}
	next := maps.Clone(k.state.Elements)
	for _, del := range []bool{true, false} {
		for _, c := range changes {
			if c.Del != del {
				continue
			}
			if err := change(next, c); err != nil {
				return fmt.Errorf("transaction of %d changes: %s: %w", len(changes), c, err)
			}
		}
	}
	k.state.Elements = next
	k.changed()
	return nil
}

// change refuses what the real sets refuse: to delete what is not there, and
// prefixes that overlap.
func change(elements map[proxier.Element]struct{}, c proxier.SetChange) error {
	_, there := elements[c.Element]
	if c.Del {
		if !there {
			return syscall.ENOENT
		}
		delete(elements, c.Element)
		return nil
	}
	if !there && !c.Element.Set.HoldsFrontends() {
		for e := range elements {
			if collide(e, c.Element) {
				return syscall.EEXIST
			}
		}
	}
	elements[c.Element] = struct{}{}
	return nil
}

// collide reports whether two different elements cannot be in one set.
func collide(a, b proxier.Element) bool {
	switch {
	case a.Set != b.Set:
		return false
	case a.Set.HoldsPrefixes():
		return a.Prefix.Overlaps(b.Prefix)
	case a.Set == proxier.SetAllowed:
		return a.Frontend() == b.Frontend() && a.Peer.Overlaps(b.Peer)
	case a.Set == proxier.SetSplit:
		return a.Frontend() == b.Frontend()
	}
	return false
}

func (k *Kernel) route(c proxier.RouteChange) error {
	if err := errors.Join(k.step(), k.fault(c.String())); err != nil {
		return err
	}
	_, there := k.state.Routes[c.Prefix]
	switch {
	case c.Del && !there:
		return fmt.Errorf("%s: %w", c, syscall.ESRCH)
	case c.Del:
		delete(k.state.Routes, c.Prefix)
	default:
		k.state.Routes[c.Prefix] = c.Source
	}
	k.changed()
	return nil
}

func (k *Kernel) server(c proxier.ServerChange) error {
	if err := k.fault(c.String()); err != nil {
		if errors.Is(err, syscall.ENOBUFS) {
			_ = k.try(c) // what was lost is the answer
		}
		return err
	}
	return k.try(c)
}

func (k *Kernel) try(c proxier.ServerChange) error {
	if err := k.fail[c.Verb]; err != nil {
		delete(k.fail, c.Verb)
		return err
	}
	server, there := k.state.Servers[c.Frontend]
	if c.Verb == proxier.AddServer && there {
		return syscall.EEXIST
	}
	if c.Verb != proxier.AddServer && !there {
		return syscall.ESRCH
	}
	_, used := slices.BinarySearchFunc(server.Dests, c.Dest.Addr, func(d proxier.Dest, a netip.AddrPort) int {
		return d.Addr.Compare(a)
	})
	switch {
	case c.Verb == proxier.AddDest && used:
		return syscall.EEXIST
	case (c.Verb == proxier.EditDest || c.Verb == proxier.DelDest) && !used:
		return syscall.ENOENT
	}
	return k.state.ApplyServer(c)
}

// CutAfter lets n more changes pass and refuses the rest, as if the process
// had died. 0 mends it.
func (k *Kernel) CutAfter(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = 0
	if n > 0 {
		k.cut = n + 1
	}
}

// Fail refuses the next change with this verb.
func (k *Kernel) Fail(v proxier.Verb, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.fail = map[proxier.Verb]error{}
	}
	k.fail[v] = err
}

// Meddle changes the state as another program would.
func (k *Kernel) Meddle(f func(proxier.State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	f(k.state)
}

// Connect sets the number of connections of a real server.
func (k *Kernel) Connect(r proxier.RealServer, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns == nil {
		k.conns = map[proxier.RealServer]int{}
	}
	k.conns[r] = n
}

// State returns a copy of what the kernel holds.
func (k *Kernel) State() proxier.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.init()
	return k.state.Clone()
}

// Applied is the number of changes and transactions made so far.
func (k *Kernel) Applied() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.applied
}

// Forgot lists the flows that were dropped.
func (k *Kernel) Forgot() []proxier.Flows {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.forgot)
}

// String prints the whole state, sorted.
func (k *Kernel) String() string { return k.State().String() }
