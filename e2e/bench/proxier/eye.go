// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// eye sees in the kernel what a contender has done; what the contender says of
// itself does not count. Both questions are asked over and over, so they cost
// little as long as the answer is no, and the second costs the same at any
// number of Services.
type eye interface {
	// complete tells whether everything of the cluster is there.
	complete(c cluster) (bool, error)
	// serves tells whether a Service sends connections to an endpoint.
	serves(service int, endpoint netip.Addr) (bool, error)
	close() error
}

// openEye opens the eye for a contender.
func openEye(who contender) (eye, error) {
	f, err := openFilter()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	raw, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netfilter: %w", err), f.CloseLasting())
	}
	base := filterEye{filter: f, netlink: raw}
	if who == kubeNFT {
		return &nftEye{filterEye: base}, nil
	}
	v, err := openIPVS()
	if err != nil {
		return nil, errors.Join(err, base.close())
	}
	if who == muster {
		return &ipvsEye{ipvs: v, filterEye: base, rules: base.musterFilter}, nil
	}
	return &ipvsEye{ipvs: v, filterEye: base, rules: base.kubeFilter}, nil
}

// filterEye is the packet filter's part, which every contender has.
type filterEye struct {
	filter
	netlink *netlink.Conn
}

func (e filterEye) close() error { return errors.Join(e.CloseLasting(), e.netlink.Close()) }

// musterFilter looks for a set of muster's table that has every frontend.
func (e filterEye) musterFilter(c cluster) (bool, error) {
	const table = "muster"
	all, err := e.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == table }) {
		return false, nil
	}
	list, err := e.elements(nftables.TableFamilyINet, table, "frontends-v4")
	return len(list) >= c.frontends(), err
}

// kubeFilter looks for kube-proxy's IP set of all ClusterIPs and the rules
// that use it, which come last.
func (e filterEye) kubeFilter(c cluster) (bool, error) {
	size, err := setSize(e.netlink, "KUBE-CLUSTER-IP")
	if err != nil || size < c.services {
		return false, err
	}
	rules, err := e.filter.rules(nftables.TableFamilyIPv4, "nat", "KUBE-SERVICES")
	return len(rules) > 0, err
}

// ipvsEye looks at virtual servers and, where a contender's packet filter
// belongs to it, at that.
type ipvsEye struct {
	*ipvs
	filterEye
	rules func(cluster) (bool, error)
}

func (e *ipvsEye) close() error { return errors.Join(e.ipvs.close(), e.filterEye.close()) }

func (e *ipvsEye) complete(c cluster) (bool, error) {
	count, err := e.servers()
	if err != nil || count < c.frontends() {
		return false, err
	}
	if ok, err := e.rules(c); !ok || err != nil {
		return false, err
	}
	// The list of all steps over a few while another network namespace is
	// being taken apart, so that it may have less than were counted.
	servers, destinations, err := e.all()
	return servers > c.frontends()*9/10 && destinations == servers*perService, err
}

func (e *ipvsEye) serves(service int, endpoint netip.Addr) (bool, error) {
	list, err := e.endpoints(netip.AddrPortFrom(vip(service), servicePort))
	return slices.Contains(list, netip.AddrPortFrom(endpoint, endpointPort)), err
}

// nftEye looks at kube-proxy's nftables mode: a map leads from a ClusterIP to
// the chain of its Service, whose rule has a map to its endpoints.
type nftEye struct {
	filterEye
	seen   uint32            // generation at the last look
	chains map[string]string // by serviceKey
}

const kubeTable = "kube-proxy"

func (e *nftEye) complete(c cluster) (bool, error) {
	now, err := generation(e.netlink)
	if err != nil || now == e.seen {
		return false, err
	}
	e.seen = now
	list, err := e.elements(nftables.TableFamilyIPv4, kubeTable, "service-ips")
	if err != nil || len(list) < c.services {
		return false, err
	}
	e.chains = map[string]string{}
	for _, element := range list {
		e.chains[string(element.Key)] = target(element)
	}
	last := c.services - 1
	return e.serves(last, podAddr(last, perService-1, 0))
}

func (e *nftEye) serves(service int, endpoint netip.Addr) (bool, error) {
	at := netip.AddrPortFrom(vip(service), servicePort)
	chain, ok := e.chains[serviceKey(at)]
	if !ok {
		return false, fmt.Errorf("no chain for %s is known", at)
	}
	rules, err := e.filter.rules(nftables.TableFamilyIPv4, kubeTable, chain)
	if err != nil {
		return false, err
	}
	want := endpointValue(netip.AddrPortFrom(endpoint, endpointPort))
	for _, r := range rules {
		values, err := e.mapped(r)
		if err != nil || slices.Contains(values, want) {
			return err == nil, err
		}
	}
	return false, nil
}

// The pause between two looks: short enough to see a change that takes a
// millisecond, and a hundredth of what has passed, since every look takes
// time from the contender on the one core.
const (
	shortPause = 250 * time.Microsecond
	longPause  = 100 * time.Millisecond
)

// await looks until ok is true and returns how long that took, or the error
// of ctx.
func await(ctx context.Context, since time.Time, ok func() (bool, error)) (time.Duration, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return time.Since(since), context.Cause(ctx)
		case <-timer.C:
		}
		begin := time.Now()
		there, err := ok()
		if err != nil {
			return 0, err
		}
		if there {
			return time.Since(since), nil
		}
		pause := max(shortPause, min(longPause, time.Since(since)/100), 4*time.Since(begin))
		timer.Reset(pause)
	}
}

// provoke deletes an element of muster's and puts it back in one transaction:
// packets do not notice, but muster compares the whole kernel.
func (e *ipvsEye) provoke() error {
	set := &nftables.Set{Table: &nftables.Table{Name: "muster", Family: nftables.TableFamilyINet}, Name: "frontends-v4"}
	one := []nftables.SetElement{{Key: []byte(serviceKey(netip.AddrPortFrom(vip(0), servicePort)))}}
	if err := errors.Join(e.SetDeleteElements(set, one), e.SetAddElements(set, one)); err != nil {
		return err
	}
	return e.Flush()
}
