// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muster-project/muster/proxier"
)

// Check is what one port answers for.
type Check struct {
	Service proxier.Name
	Local   int // endpoints on this node that take new connections
}

// Fault is a port that nobody can ask, and why.
type Fault struct {
	Port  uint16
	Check Check
	Err   error // joins those of single addresses
}

// Periods of [Servers].
const (
	defaultRetry      = 10 * time.Second
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute // longer than the period of any load balancer's probe
)

// Servers keeps one HTTP server per port and address. Safe for concurrent
// use; the zero value has no server.
type Servers struct {
	Healthy func() bool // whether the proxier works; nil is always
	Fault   func(Fault) // told once for each reason a port cannot be bound; may be nil

	// Retry is how often a port that cannot be bound is tried again; 0 is
	// every 10 seconds.
	Retry time.Duration

	mu     sync.Mutex
	closed bool
	addrs  []netip.Addr
	checks map[uint16]Check
	open   map[netip.AddrPort]opened
	told   map[uint16]string
}

// opened is one port on one address.
type opened struct {
	server   *http.Server
	listener net.Listener
}

// close frees the port at once, even if the server was not serving yet.
func (o opened) close() {
	o.server.Close()
	o.listener.Close()
}

// Sync makes the checks those in force, each on every one of the addresses.
// What is in force already goes on without a gap. A port that cannot be bound
// is tried again by [Servers.Run].
func (s *Servers) Sync(addrs []netip.Addr, checks map[uint16]Check) {
	s.mu.Lock()
	s.addrs, s.checks = slices.Clone(addrs), maps.Clone(checks)
	faults := s.bind()
	s.mu.Unlock()
	s.tell(faults)
}

// Run tries again what could not be bound until ctx ends, and closes
// everything then.
func (s *Servers) Run(ctx context.Context) {
	ticks := time.NewTicker(cmp.Or(s.Retry, defaultRetry))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			s.close()
			return
		case <-ticks.C:
			s.retry()
		}
	}
}

func (s *Servers) retry() {
	s.mu.Lock()
	faults := s.bind()
	s.mu.Unlock()
	s.tell(faults)
}

func (s *Servers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.checks = true, nil
	s.bind()
}

// bind closes what is no longer wanted, then opens what is missing: a port
// may go from one Service to another.
func (s *Servers) bind() []Fault {
	for at, o := range s.open {
		if _, wanted := s.checks[at.Port()]; !wanted || !slices.Contains(s.addrs, at.Addr()) {
			o.close()
			delete(s.open, at)
		}
	}
	if s.closed {
		return nil
	}
	var faults []Fault
	for _, port := range slices.Sorted(maps.Keys(s.checks)) {
		if err := s.listen(port); err != nil {
			faults = append(faults, Fault{port, s.checks[port], err})
		}
	}
	return s.news(faults)
}

// listen opens the missing servers of one port. An address that cannot be
// bound does not keep the others closed.
func (s *Servers) listen(port uint16) error {
	var faults []error
	for _, addr := range s.addrs {
		at := netip.AddrPortFrom(addr, port)
		if _, done := s.open[at]; done {
			continue
		}
		network := "tcp6"
		if addr.Is4() {
			network = "tcp4"
		}
		listener, err := net.Listen(network, at.String())
		if err != nil {
			faults = append(faults, err)
			continue
		}
		o := opened{&http.Server{Handler: s.handler(port), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout}, listener}
		if s.open == nil {
			s.open = map[netip.AddrPort]opened{}
		}
		s.open[at] = o
		go s.serve(at, o)
	}
	return errors.Join(faults...)
}

// serve answers until the server is closed. One that ends by itself is
// opened again at the next try.
func (s *Servers) serve(at netip.AddrPort, o opened) {
	if err := o.server.Serve(o.listener); errors.Is(err, http.ErrServerClosed) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[at] == o {
		delete(s.open, at)
	}
}

// news drops the faults that were told before, and forgets those that ended.
func (s *Servers) news(faults []Fault) []Fault {
	told := map[uint16]string{}
	var fresh []Fault
	for _, f := range faults {
		reason := fmt.Sprint(f.Check.Service, f.Err)
		if s.told[f.Port] != reason {
			fresh = append(fresh, f)
		}
		told[f.Port] = reason
	}
	s.told = told
	return fresh
}

func (s *Servers) tell(faults []Fault) {
	if s.Fault == nil {
		return
	}
	for _, f := range faults {
		s.Fault(f)
	}
}

// check is what the port answers for now.
func (s *Servers) check(port uint16) (Check, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.checks[port]
	return c, ok
}
