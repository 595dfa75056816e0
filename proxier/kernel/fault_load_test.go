// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// load is clients that connect again and again, a thousand times a second
// where the machine can, and may never fail.
type load struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	made   atomic.Int64
	failed atomic.Int64

	mu     sync.Mutex
	faults []string // the first few
}

// route is who connects to what.
type route struct {
	from *host
	to   string
}

// connectAll starts a client per host.
func connectAll(t *testing.T, routes []route) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	t.Cleanup(func() { l.stop() })
	byHost := map[*host][]string{}
	for _, r := range routes {
		byHost[r.from] = append(byHost[r.from], r.to)
	}
	pause := time.Second * time.Duration(len(byHost)) / 1000
	for h, to := range byHost {
		l.work.Go(func() { l.run(ctx, h, to, pause) })
	}
	return l
}

func (l *load) stop() {
	l.cancel()
	l.work.Wait()
}

func (l *load) run(ctx context.Context, h *host, to []string, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		addr := to[i%len(to)]
		if err := h.touch(addr, 10_000+i%50_000); err != nil {
			l.fail(fmt.Sprintf("%s -> %s: %v", h.name, addr, err))
		}
		l.made.Add(1)
	}
}

func (l *load) fail(what string) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < 5 {
		l.faults = append(l.faults, what)
	}
}

// check fails the test if a connection failed since the last check, and tells
// where it was.
func (l *load) check(t *testing.T, where string) {
	t.Helper()
	if n := l.failed.Swap(0); n > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Errorf("%s: %d connections failed: %q", where, n, l.faults)
		l.faults = nil
	}
}

// touch connects from a port and hangs up. A connection that needed a second
// SYN counts as failed: the first one was lost. Ports come in turn: the kernel
// would use one again for another frontend of the same pods while connection
// tracking and IPVS still remember the first, and that is not what a kill is
// about.
func (h *host) touch(addr string, port int) (err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: patience}
	h.in(func() {
		var c net.Conn
		if c, err = d.Dial("tcp", addr); err != nil {
			return
		}
		defer c.Close()
		tcp := c.(*net.TCPConn)
		raw, rawErr := tcp.SyscallConn()
		err = errors.Join(rawErr, tcp.SetLinger(0)) // no TIME_WAIT: ports would run out
		if err == nil {
			err = errors.Join(raw.Control(func(fd uintptr) { err = retransmitted(int(fd)) }), err)
		}
	})
	return err
}

func retransmitted(fd int) error {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.Total_retrans > 0 {
		err = fmt.Errorf("%d packets had to be sent again", info.Total_retrans)
	}
	return err
}
