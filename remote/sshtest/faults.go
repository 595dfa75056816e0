// SPDX-License-Identifier: Apache-2.0

package sshtest

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Faults are what goes wrong on connections made from now on.
type Faults struct {
	CutAfter int64         // close after so many bytes from the client; 0 never
	Delay    time.Duration // wait so long before each read
}

// Break sets the faults of connections made from now on.
func (s *Server) Break(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Cut closes all connections there are.
func (s *Server) Cut() {
	s.mu.Lock()
	conns := s.conns
	s.conns = map[*faultyConn]bool{}
	s.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Freeze makes all connections stand still without closing them, as a machine
// does that lost its power. Close ends it.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thaw = make(chan struct{})
}

func (s *Server) wrap(c net.Conn) *faultyConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &faultyConn{Conn: c, server: s, faults: s.faults, gone: make(chan struct{})}
	s.conns[f] = true
	if s.closed { // accepted while the server was closing
		f.Close()
	}
	return f
}

type faultyConn struct {
	net.Conn
	server *Server
	faults Faults
	got    atomic.Int64
	once   sync.Once
	gone   chan struct{}
}

func (f *faultyConn) Read(p []byte) (int, error) {
	if f.faults.Delay > 0 {
		f.wait(f.faults.Delay)
	}
	n, err := f.Conn.Read(p)
	f.stand()
	if total := f.got.Add(int64(n)); f.faults.CutAfter > 0 && total >= f.faults.CutAfter {
		f.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func (f *faultyConn) Write(p []byte) (int, error) {
	f.stand()
	return f.Conn.Write(p)
}

// stand waits while the server stands still.
func (f *faultyConn) stand() {
	f.server.mu.Lock()
	thaw := f.server.thaw
	f.server.mu.Unlock()
	select {
	case <-thaw:
	case <-f.gone:
	}
}

func (f *faultyConn) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.gone:
	}
}

func (f *faultyConn) Close() error {
	f.once.Do(func() { close(f.gone) })
	return f.Conn.Close()
}
