// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// serveSCTP answers one-to-one SCTP associations as serve does.
func (h *host) serveSCTP(t *testing.T, port int) {
	t.Helper()
	h.in(func() {
		fd := socketSCTP(t)
		must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
		must(t, unix.Listen(fd, 16))
		file := os.NewFile(uintptr(fd), "sctp")
		l, err := net.FileListener(file)
		must(t, err)
		must(t, file.Close())
		t.Cleanup(func() { l.Close() })
		go h.acceptAll(l)
	})
}

func socketSCTP(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	must(t, err)
	// A lost chunk must not take the whole patience.
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}))
	return fd
}

func (h *host) askSCTP(t *testing.T, addr string) (got answer, err error) {
	t.Helper()
	to := netip.MustParseAddrPort(addr)
	h.in(func() {
		fd := socketSCTP(t)
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			unix.Close(fd)
			return
		}
		file := os.NewFile(uintptr(fd), "sctp")
		defer file.Close()
		var conn net.Conn
		if conn, err = net.FileConn(file); err != nil {
			return
		}
		defer conn.Close()
		got, err = newSession(conn).hear()
	})
	return got, err
}

func TestSCTP(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	for _, h := range []*host{c.a, c.remote} {
		h.serveSCTP(t, 8080)
	}
	sctp := func(externalLocal bool) func(*proxier.Service) {
		return func(s *proxier.Service) {
			balanced(s)
			s.ExternalLocal = externalLocal
			s.Ports = []proxier.Port{{Name: "s", Proto: proxier.SCTP, Port: 80, NodePort: 30080}}
		}
	}
	slice := webSlice(podA)
	slice.Ports = []proxier.SlicePort{{Name: "s", Proto: proxier.SCTP, Port: 8080}}
	for _, externalLocal := range []bool{false, true} {
		c.inbox.Service(webService(sctp(externalLocal)))
		for _, backend := range []struct {
			name string
			proxier.Endpoint
		}{{"a", podA}, {"remote", podRemote}} {
			slice.Endpoints = []proxier.Endpoint{backend.Endpoint}
			before := c.slices.Load()
			c.inbox.Slice(slice)
			eventually(t, "the endpoints reach the kernel", patience, func() bool { return c.slices.Load() > before })
			for _, from := range []*host{c.client, c.node, c.outside} {
				for _, target := range []string{byClusterIP, byNodePort, byExternal} {
					if externalLocal && from == c.outside && backend.name == "remote" && target != byClusterIP {
						continue // dropped, which TestExternalLocal shows
					}
					if got, err := from.askSCTP(t, target); err != nil || got.by != backend.name {
						t.Errorf("%s -> sctp %s: %v, %v, want %s", from.name, target, got, err, backend.name)
					}
				}
			}
		}
	}
}

// A client behind a link with a smaller MTU: its router's "fragmentation
// needed" is sent to the Service's address and has to reach the pod. IPVS
// takes it in FORWARD where the address is not this host's.
func TestPathMTU(t *testing.T) {
	c := newCluster(t)
	c.defaultRoute()
	far := netip.MustParseAddr("172.31.0.9")
	client := newHost(t, "far")
	// far -- outside -- node, and outside sends no more than 1300 bytes to far,
	// which far does not know.
	c.between(client, c.outside, far, netip.MustParseAddr("172.31.0.1"))
	c.outside.in(func() { must(t, netlink.LinkSetMTU(link(t, "far1"), 1300)) })
	must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: link(t, "to-outside").Attrs().Index, Dst: whole(far).IPNet, Gw: outsideIP.AsSlice()}))
	c.outside.in(func() { must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)) })
	for _, externalLocal := range []bool{false, true} {
		c.service(func(s *proxier.Service) { balanced(s); s.ExternalLocal = externalLocal }, podA)
		for _, target := range []string{byExternal, byNodePort, byClusterIP} {
			c.a.in(func() { // what was learnt about the path before
				must(t, os.WriteFile("/proc/sys/net/ipv4/route/flush", []byte("1"), 0o200))
			})
			s, err := client.dial("tcp", target)
			if err != nil {
				t.Errorf("%s: %v", target, err)
				continue
			}
			_, err = s.hear()
			must(t, err)
			line := fmt.Sprintf("%08000d", 7)
			if err := s.echo(line); err != nil {
				t.Errorf("external Local %t: 8000 bytes by way of %s: %v", externalLocal, target, err)
			}
			s.Close()
		}
	}
}

// between lays a cable between two hosts, neither of which is the node.
func (c *cluster) between(a, b *host, addrA, addrB netip.Addr) {
	c.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", b.task))
	must(c.T, err)
	defer ns.Close()
	a.in(func() {
		must(c.T, netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "far0"}, PeerName: "far1", PeerNamespace: netlink.NsFd(int(ns.Fd()))}))
		must(c.T, netlink.LinkSetUp(link(c.T, "far0")))
	})
	b.in(func() {
		far := link(c.T, "far1")
		must(c.T, netlink.LinkSetUp(far))
		must(c.T, netlink.AddrReplace(far, whole(addrB)))
		must(c.T, netlink.RouteReplace(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: whole(addrA).IPNet, Scope: scope(addrA)}))
	})
	a.in(func() {
		far := link(c.T, "far0")
		must(c.T, netlink.AddrReplace(far, whole(addrA)))
		must(c.T, netlink.RouteReplace(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: whole(addrB).IPNet, Scope: scope(addrB)}))
		must(c.T, netlink.RouteReplace(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: everything(addrA), Gw: addrB.AsSlice(), MTU: 1300, AdvMSS: 1460}))
	})
}

// Every scheduler with its weights, as the kernel understands them.
func TestTuning(t *testing.T) {
	c := newCluster(t)
	// dh is not among them: it refuses clients whose bucket has weight 0.
	for _, name := range []string{"rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"} {
		c.service(func(s *proxier.Service) {
			s.Tuning = proxier.Tuning{Scheduler: name, Weights: []proxier.WeightRule{{Node: "elsewhere", Weight: 0}, {Local: true, Weight: 2}}}
		}, podA, podRemote)
		for range 4 {
			got, err := c.client.ask("tcp", byClusterIP)
			if err != nil || got.by != "a" {
				t.Errorf("%s: %v, %v, want a, which is the only one with a weight", name, got, err)
			}
		}
	}
	c.service(func(s *proxier.Service) {
		s.Tuning = proxier.Tuning{Scheduler: "wrr", Weights: []proxier.WeightRule{{Local: true, Weight: 3}, {Weight: 1}}}
	}, podA, podRemote)
	count := map[string]int{}
	for range 16 {
		got, err := c.client.ask("tcp", byClusterIP)
		must(t, err)
		count[got.by]++
	}
	if count["a"] != 12 || count["remote"] != 4 {
		t.Errorf("weights 3 and 1 gave %v of 16, want 12 and 4", count)
	}
}
