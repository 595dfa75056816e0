// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/muster-project/muster/proxier"
)

// evidence is what tells kube-proxy's virtual servers from others'.
type evidence struct {
	device    map[netip.Addr]struct{}     // addresses of kube-ipvs0
	host      map[netip.Addr]struct{}     // all addresses of this host
	nodePorts map[nodePort]struct{}       // from its ipsets
	keep      func(proxier.Frontend) bool // never its, whatever the rest says
}

func setOf(addrs []netip.Addr) map[netip.Addr]struct{} {
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		set[a] = struct{}{}
	}
	return set
}

func (e evidence) says(f proxier.Frontend) bool {
	if e.keep != nil && e.keep(f) {
		return false
	}
	addr := f.Addr.Addr()
	if _, ok := e.device[addr]; ok {
		return true
	}
	_, local := e.host[addr]
	_, served := e.nodePorts[nodePort{f.Proto, f.Addr.Port()}]
	return local && served
}

// orphans are the virtual servers that were kube-proxy's and that its
// successor does not serve.
func orphans(have proxier.State, conns map[proxier.RealServer]int, e evidence) []Server {
	var list []Server
	for f, server := range have.Servers {
		if have.Owns(f) || !e.says(f) {
			continue
		}
		s := Server{Frontend: f, Dests: server.Dests}
		for _, d := range server.Dests {
			s.Connections += conns[proxier.RealServer{Frontend: f, Addr: d.Addr}]
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Server) int { return a.Frontend.Compare(b.Frontend) })
	return list
}

// retire plans the end of orphans: those without connections go, and with
// now all of them; the rest takes no new ones.
func retire(orphans []Server, now bool) proxier.Plan {
	var p proxier.Plan
	for _, s := range orphans {
		if now || s.Connections == 0 {
			p.Servers = append(p.Servers, proxier.ServerChange{Verb: proxier.DelServer, Frontend: s.Frontend})
			continue
		}
		for _, d := range s.Dests {
			if d.Weight > 0 {
				d.Weight = 0
				p.Servers = append(p.Servers, proxier.ServerChange{Verb: proxier.EditDest, Frontend: s.Frontend, Dest: d})
			}
		}
	}
	return p
}

// findServers reads IPVS.
func findServers(ctx context.Context, k proxier.Kernel, r *Remains, e evidence) error {
	have, err := k.Read(ctx)
	if err != nil {
		return err
	}
	conns, err := k.Connections(ctx, slices.Collect(maps.Keys(have.Servers)))
	if err != nil {
		return err
	}
	r.Servers = orphans(have, conns, e)
	// An address that the successor routes to this host needs no device.
	r.Bound = slices.DeleteFunc(r.Bound, func(a netip.Addr) bool {
		for prefix := range have.Routes {
			if prefix.Contains(a) {
				return true
			}
		}
		return false
	})
	return nil
}
