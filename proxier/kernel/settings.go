// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// Settings are what a person may ask of the host beside what the data plane
// needs. Zero leaves a thing as it is. Times are rounded down to seconds.
type Settings struct {
	ConntrackMax         int           // entries in all; the hash table grows with it
	ConntrackEstablished time.Duration // idle TCP connections
	ConntrackCloseWait   time.Duration
	ConntrackUDP         time.Duration // flows nobody answered
	ConntrackUDPStream   time.Duration // flows that were answered
	ConntrackLiberal     bool          // segments outside the window are valid

	IPVSTCP, IPVSTCPFin, IPVSUDP time.Duration // idle connections of IPVS

	StrictARP bool // answer ARP for an address only on the interface that has it
}

// Names of the timeouts of IPVS beside the sysctls.
const (
	timeoutTCP    = "ipvs/timeout/tcp"
	timeoutTCPFin = "ipvs/timeout/tcp-fin"
	timeoutUDP    = "ipvs/timeout/udp"
)

var ipvsTimeouts = [...]string{timeoutTCP, timeoutTCPFin, timeoutUDP}

// Apply puts the settings in force. What was before is kept in stateDir for
// [CleanUp]. It must not run beside a [Kernel] with the same stateDir.
func (s Settings) Apply(stateDir string) error {
	return newSysctls(stateDir).set(s.list())
}

func (s Settings) list() []sysctl {
	var list []sysctl
	number := func(name string, n int64) {
		if n > 0 {
			list = append(list, sysctl{name: name, value: strconv.FormatInt(n, 10)})
		}
	}
	seconds := func(name string, d time.Duration) { number(name, int64(d/time.Second)) }
	if s.ConntrackMax > 0 {
		// As large as kube-proxy makes it: chains of four entries.
		list = append(list, sysctl{name: "net/netfilter/nf_conntrack_buckets", value: strconv.Itoa(s.ConntrackMax / 4), atLeast: true})
	}
	number("net/netfilter/nf_conntrack_max", int64(s.ConntrackMax))
	seconds("net/netfilter/nf_conntrack_tcp_timeout_established", s.ConntrackEstablished)
	seconds("net/netfilter/nf_conntrack_tcp_timeout_close_wait", s.ConntrackCloseWait)
	seconds("net/netfilter/nf_conntrack_udp_timeout", s.ConntrackUDP)
	seconds("net/netfilter/nf_conntrack_udp_timeout_stream", s.ConntrackUDPStream)
	seconds(timeoutTCP, s.IPVSTCP)
	seconds(timeoutTCPFin, s.IPVSTCPFin)
	seconds(timeoutUDP, s.IPVSUDP)
	if s.ConntrackLiberal {
		number("net/netfilter/nf_conntrack_tcp_be_liberal", 1)
	}
	if s.StrictARP {
		number("net/ipv4/conf/all/arp_ignore", 1)
		number("net/ipv4/conf/all/arp_announce", 2)
	}
	return list
}

// forward makes this host a router for IPv6 before the first service prefix
// of that family is routed.
func (k *Kernel) forward(routes []proxier.RouteChange) error {
	if !slices.ContainsFunc(routes, func(c proxier.RouteChange) bool { return !c.Del && c.Prefix.Addr().Is6() }) {
		return nil
	}
	return k.sysctls.set(forwarding6())
}

// netlinkTimeouts is the real timeouts.
type netlinkTimeouts struct{}

func timeoutAttr(name string) uint16 {
	switch name {
	case timeoutTCP:
		return attrTimeoutTCP
	case timeoutTCPFin:
		return attrTimeoutTCPFin
	}
	return attrTimeoutUDP
}

func (netlinkTimeouts) read(name string) (string, error) {
	v, err := dialIPVS()
	if errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return "", err
	}
	value, err := v.timeout(timeoutAttr(name))
	return strconv.FormatUint(uint64(value), 10), errors.Join(err, v.close())
}

func (netlinkTimeouts) write(name, value string) error {
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return err
	}
	v, err := dialIPVS()
	if err != nil {
		return err
	}
	return errors.Join(v.setTimeout(timeoutAttr(name), uint32(seconds)), v.close())
}

// timeout reads one of the attrTimeouts, in seconds.
func (v *ipvs) timeout(attr uint16) (uint32, error) {
	b := v.batch()
	b.end(b.begin(cmdGetConfig, 0))
	var seconds uint32
	err := v.exchange(b, refuse, func(body []byte) error {
		attrs, err := parseAttrs(body)
		if err == nil && len(attrs[attr]) != 4 {
			err = fmt.Errorf("attribute %d has %d bytes, want 4", attr, len(attrs[attr]))
		}
		if err == nil {
			seconds = binary.NativeEndian.Uint32(attrs[attr])
		}
		return err
	})
	return seconds, wrap("read the timeouts of IPVS", err)
}

func (v *ipvs) setTimeout(attr uint16, seconds uint32) error {
	b := v.batch()
	at := b.begin(cmdSetConfig, 0)
	b.u32(attr, seconds)
	b.end(at)
	return wrap("set a timeout of IPVS", v.exchange(b, refuse, func([]byte) error { return nil }))
}

func refuse(_ uint32, errno unix.Errno) error { return errno }
