// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

func (g gatherer) network() {
	g.addresses()
	ports := map[int]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(g.read(table), ports)
	}
	for p := range ports {
		g.facts.Listening = append(g.facts.Listening, p)
	}
	slices.Sort(g.facts.Listening)
	for _, link := range advertised(g.read("/proc/net/ipv6_route")) {
		if strings.TrimSpace(g.read("/proc/sys/net/ipv6/conf/"+link+"/accept_ra")) != "2" {
			g.facts.Advertised = append(g.facts.Advertised, link)
		}
	}
}

func (g gatherer) addresses() {
	g.facts.Links = map[string]string{}
	links, err := net.Interfaces()
	if err != nil {
		g.facts.Problems = append(g.facts.Problems, "interfaces: "+err.Error())
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			g.facts.Problems = append(g.facts.Problems, "addresses of "+l.Name+": "+err.Error())
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				g.facts.Addresses = append(g.facts.Addresses, n.IP.String())
				g.facts.Links[n.IP.String()] = l.Name
			}
		}
	}
	slices.Sort(g.facts.Addresses)
}

// listening adds the local ports in state 0A (TCP_LISTEN) of a /proc/net/tcp
// table (kernel Documentation/networking/proc_net_tcp.rst).
func listening(table string, ports map[int]bool) {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			ports[int(port)] = true
		}
	}
}

// advertised gives the interfaces that a /proc/net/ipv6_route table has a
// default route of the kernel's own for: it makes these from router
// advertisements alone (include/uapi/linux/ipv6_route.h).
func advertised(table string) []string {
	const own = 0x00010000 | 0x00040000 // RTF_DEFAULT and RTF_ADDRCONF
	var links []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) != 10 {
			continue
		}
		flags, err := strconv.ParseUint(fields[8], 16, 32)
		if link := fields[9]; err == nil && flags&own == own && !slices.Contains(links, link) {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	return links
}
