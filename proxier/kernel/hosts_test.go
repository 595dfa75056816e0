// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is a network namespace, and a thread that lives in it.
type host struct {
	name string
	do   chan func()
	task int
}

// node is the namespace of the test itself: the machine under test.
func node() *host { return &host{name: "node"} }

func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := &host{name: name, do: make(chan func())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h.task = unix.Gettid()
		started <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range h.do {
			f()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("host %s: %v", name, err)
	}
	t.Cleanup(func() { close(h.do) })
	h.in(func() {
		lo, err := netlink.LinkByName("lo")
		must(t, errors.Join(err, netlink.LinkSetUp(lo)))
	})
	return h
}

// in runs f in the host's namespace.
func (h *host) in(f func()) {
	if h.do == nil {
		f()
		return
	}
	done := make(chan struct{})
	h.do <- func() { f(); close(done) }
	<-done
}

// connect gives h a cable to the node. The node reaches h's addresses through
// it and is h's way to everything else.
func (h *host) connect(t *testing.T, nodeSide netip.Addr, addrs ...netip.Addr) {
	t.Helper()
	name := "to-" + h.name
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0"}
	ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", h.task))
	must(t, err)
	defer ns.Close()
	veth.PeerNamespace = netlink.NsFd(int(ns.Fd()))
	must(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { netlink.LinkDel(veth) })
	must(t, netlink.LinkSetUp(link(t, name)))
	h.in(func() { must(t, netlink.LinkSetUp(link(t, "eth0"))) })
	h.connectAgain(t, nodeSide, addrs...)
}

// connectAgain adds addresses to the cable.
func (h *host) connectAgain(t *testing.T, nodeSide netip.Addr, addrs ...netip.Addr) {
	t.Helper()
	here := link(t, "to-"+h.name)
	must(t, netlink.AddrReplace(here, whole(nodeSide)))
	h.in(func() {
		eth := link(t, "eth0")
		for _, a := range addrs {
			must(t, netlink.AddrReplace(eth, whole(a)))
		}
		must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: whole(nodeSide).IPNet, Scope: scope(nodeSide)}))
		must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: everything(nodeSide), Gw: nodeSide.AsSlice()}))
	})
	for _, a := range addrs {
		must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: here.Attrs().Index, Dst: whole(a).IPNet, Scope: scope(a)}))
	}
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func scope(a netip.Addr) netlink.Scope {
	if a.Is6() {
		return netlink.SCOPE_UNIVERSE
	}
	return netlink.SCOPE_LINK
}

func whole(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Flags: flags(a)}
}

// Duplicate address detection would delay IPv6 by a second.
func flags(a netip.Addr) int {
	if a.Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}

func everything(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: net.CIDRMask(0, a.BitLen())}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers every TCP connection and UDP packet to port with the host's
// name and the client's address, and TCP lines after that with themselves.
func (h *host) serve(t *testing.T, port int) {
	t.Helper()
	h.in(func() {
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		must(t, err)
		p, err := net.ListenPacket("udp", fmt.Sprint(":", port))
		must(t, err)
		t.Cleanup(func() { l.Close(); p.Close() })
		go h.acceptAll(l)
		go h.answerAll(p)
	})
}

func (h *host) acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, h.name, ip(c.RemoteAddr()))
			for lines := bufio.NewScanner(c); lines.Scan(); {
				fmt.Fprintln(c, lines.Text())
			}
		}()
	}
}

func (h *host) answerAll(p net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		_, from, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		p.WriteTo([]byte(fmt.Sprintln(h.name, ip(from))), from)
	}
}

func ip(a net.Addr) netip.Addr {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap()
}

// answer is who answered, and whom they took us for.
type answer struct {
	by   string
	from netip.Addr
}

// session is an open connection.
type session struct {
	net.Conn
	lines *bufio.Reader
	limit time.Duration // for each answer
}

func newSession(c net.Conn) *session {
	return &session{Conn: c, lines: bufio.NewReader(c), limit: patience}
}

const patience = 3 * time.Second

func (h *host) dial(network, addr string) (*session, error) {
	return h.dialWithin(patience, network, addr)
}

func (h *host) dialWithin(limit time.Duration, network, addr string) (s *session, err error) {
	h.in(func() {
		var c net.Conn
		if c, err = net.DialTimeout(network, addr, limit); err == nil {
			s = newSession(c)
			s.limit = limit
		}
	})
	return s, err
}

// ask connects, reads the answer and hangs up.
func (h *host) ask(network, addr string) (answer, error) {
	return h.askWithin(patience, network, addr)
}

func (h *host) askWithin(limit time.Duration, network, addr string) (answer, error) {
	s, err := h.dialWithin(limit, network, addr)
	if err != nil {
		return answer{}, err
	}
	defer s.Close()
	if network == "udp" {
		if _, err := fmt.Fprintln(s, "hello"); err != nil {
			return answer{}, err
		}
	}
	return s.hear()
}

func (s *session) hear() (answer, error) {
	s.SetDeadline(time.Now().Add(s.limit))
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return answer{}, err
	}
	by, from, _ := strings.Cut(strings.TrimSpace(line), " ")
	addr, err := netip.ParseAddr(from)
	return answer{by, addr}, err
}

// echo sends a line and waits for it to come back.
func (s *session) echo(line string) error {
	s.SetDeadline(time.Now().Add(s.limit))
	if _, err := fmt.Fprintln(s, line); err != nil {
		return err
	}
	got, err := s.lines.ReadString('\n')
	if err == nil && strings.TrimSpace(got) != line {
		err = fmt.Errorf("sent %q, got %q", line, got)
	}
	return err
}

// eventually waits until ok holds, and fails after limit.
func eventually(t *testing.T, what string, limit time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begin)
}
