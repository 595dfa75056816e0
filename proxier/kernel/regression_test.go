// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
)

// What was reported of service proxies on IPVS and must not come back. The
// numbers are issues of kubernetes/kubernetes. Others of them are beside the
// feature they are about: 72236 in TestRefused, 117205 and 57841 in TestDrain,
// 127410 in TestExternalIPOfAnotherNode, 114815 in TestExternalIPOfThisNode,
// 75262 and 89869 in TestExternalLocal, 119656 in TestSourceRanges, 105192 in
// TestUDPFlowOlderThanItsNodePort and TestExternalLocalUDPMoves, 65158 and
// 63241 in TestClusterIP.

// 92019, 108319: real servers stayed at weight 0 after a restart.
func TestRestartRepairsWeights(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	c.stop()
	run(t, "ipvsadm", "-e", "-t", byClusterIP, "-r", "10.244.0.2:8080", "-m", "-w", "0")
	c.refused(c.client, "tcp", byClusterIP)
	k, err := Open(Options{StateDir: t.TempDir()})
	must(t, err)
	defer k.Close()
	c.start(k)
	c.inbox.Service(webService(nil))
	c.inbox.Slice(webSlice(podA))
	before := c.slices.Load()
	c.inbox.Synced()
	eventually(t, "the successor is done", patience, func() bool { return c.slices.Load() > before })
	c.wants(c.client, "tcp", byClusterIP, "a")
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}

// 71809: with affinity, clients went on to real servers of weight 0.
func TestAffinityLeavesDrainingServers(t *testing.T) {
	c := newCluster(t)
	sticky := func(s *proxier.Service) { s.Affinity = time.Hour }
	c.service(sticky, podA, podB)
	first, err := c.client.ask("tcp", byClusterIP)
	must(t, err)
	stream, err := c.client.dial("tcp", byClusterIP) // keeps the real server for a while
	must(t, err)
	defer stream.Close()
	left, name := podB, "b"
	if first.by == "b" {
		left, name = podA, "a"
	}
	c.endpoints(left)
	for range 3 {
		c.wants(c.client, "tcp", byClusterIP, name)
	}
}

// 70747, 81775, 90854: a client that uses a port again soon was sent to a pod
// that is gone, or had to wait for its second SYN.
func TestClientPortIsUsedAgain(t *testing.T) {
	c := newCluster(t)
	for round := range 6 {
		backend, name := podA, "a"
		if round%2 == 1 {
			backend, name = podRemote, "remote"
		}
		c.service(nil, backend)
		var got answer
		var err error
		c.client.in(func() { got, err = askFrom(40000, byClusterIP) })
		if err != nil || got.by != name {
			t.Errorf("round %d: %v, %v, want %s", round, got, err, name)
		}
	}
}

// askFrom connects from one port and leaves without a TIME_WAIT.
func askFrom(port int, addr string) (answer, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: patience}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return answer{}, err
	}
	got, err := newSession(conn).hear()
	return got, errors.Join(err, conn.(*net.TCPConn).SetLinger(0), conn.Close())
}

// 59976, metallb#153: every node answered ARP for a load balancer's address.
func TestNoARPForExternalAddresses(t *testing.T) {
	c := newCluster(t)
	c.service(balanced, podA)
	c.outside.in(func() {
		must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: link(t, "eth0").Attrs().Index, Dst: whole(netip.MustParseAddr(external)).IPNet, Scope: netlink.SCOPE_LINK}))
	})
	if got, err := c.outside.ask("tcp", byExternal); !errors.Is(err, syscall.EHOSTUNREACH) && !os.IsTimeout(err) {
		t.Errorf("%v, %v, want nobody to answer for %s on the link", got, err, external)
	}
}

// 59156, 93674, 75443: NodePorts answered on addresses nobody chose.
func TestNodePortOnPrimaryAddressOnly(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	c.refused(c.client, "tcp", "10.244.0.1:30080")
	c.refused(c.outside, "tcp", "198.51.100.1:30080")
	c.wants(c.outside, "tcp", byNodePort, "a")
}

// 62839, 73382 and others: a change that waits for a tick. Fifty changes one
// after the other, each in force before the next is made.
func TestEveryChangeIsInForceAtOnce(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA)
	for i := range 50 {
		backend, name := podB, "b"
		if i%2 == 1 {
			backend, name = podA, "a"
		}
		c.endpoints(backend)
		c.wants(c.client, "tcp", byClusterIP, name)
	}
}

// masqueradeAll, and the ways to know a pod.
func TestDetectLocal(t *testing.T) {
	inside, outside := netip.MustParseAddr("10.244.0.9"), podSide
	for _, c := range []struct {
		name        string
		pods        proxier.DetectLocal
		options     Options
		client, far netip.Addr // as whom pod a sees a pod of this node, and somebody outside
		known       bool       // that the pod is one: it gets all endpoints of an external address with Local policy
	}{
		{"nobody is outside", proxier.DetectLocal{}, Options{}, inside, outsideIP, false},
		{"masquerade all", proxier.DetectLocal{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, Options{MasqueradeAll: true}, podSide, outside, true},
		{"cluster CIDR", proxier.DetectLocal{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, Options{}, inside, outside, true},
		{"node CIDR", proxier.DetectLocal{NodeCIDRs: true}, Options{}, inside, outside, true},
		{"interface prefix", proxier.DetectLocal{InterfacePrefix: "to-c"}, Options{}, inside, outside, true},
		{"interface", proxier.DetectLocal{Interface: "to-client"}, Options{}, inside, outside, true},
		{"another bit", proxier.DetectLocal{NodeCIDRs: true}, Options{MasqueradeBit: new(uint)}, inside, outside, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClusterWith(t, c.pods, c.options)
			k.service(nil, podA)
			k.wants(k.client, "tcp", byClusterIP, "a", c.client)
			k.wants(k.outside, "tcp", byClusterIP, "a", c.far)
			k.wants(k.outside, "tcp", byNodePort, "a", podSide)
			k.service(func(s *proxier.Service) { balanced(s); s.ExternalLocal = true }, podA, podRemote)
			if c.known {
				k.reachesBoth(k.client, "tcp", byExternal)
			} else {
				for range 4 {
					k.wants(k.client, "tcp", byExternal, "a")
				}
			}
			for range 4 {
				k.wants(k.outside, "tcp", byExternal, "a", outsideIP)
			}
		})
	}
}
