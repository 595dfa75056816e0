// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/walk"
)

// looker runs a function while the loop holds still; [proxier.Proxier.Look].
type looker func(context.Context, func(*proxier.Model, proxier.State)) error

// explainer answers /debug/explain: why a frontend has its real servers.
type explainer struct {
	look    looker
	servers realServers
	host    func() (walk.Host, error) // this one, for the way of a connection
}

// realServers are the kernel's of some virtual servers;
// [kernel.ReadRealServers].
type realServers func(context.Context, []proxier.Frontend) (map[proxier.Frontend]map[netip.AddrPort]kernel.RealServer, error)

const explainUsage = "ask for ?frontend=ADDRESS:PORT/PROTOCOL or ?service=NAMESPACE/NAME, " +
	"with &from=ADDRESS for the way of a connection from there, and &format=json for programs\n"

func (x explainer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pick, err := picked(r.FormValue("frontend"), r.FormValue("service"))
	from, err2 := parseClient(r.FormValue("from"))
	if err := cmp.Or(err, err2); err != nil {
		http.Error(w, fmt.Sprintf("%v\n%s", err, explainUsage), http.StatusBadRequest)
		return
	}
	pages, err := x.pages(r.Context(), pick, from)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case len(pages) == 0:
		http.Error(w, "no Service of this proxier has that", http.StatusNotFound)
	default:
		write(w, pages, r.FormValue("format") == "json")
	}
}

// pages explains what pick picks.
func (x explainer) pages(ctx context.Context, pick func(*proxier.Model) []proxier.Frontend, from client) ([]page, error) {
	host, err := x.host()
	if err != nil {
		return nil, err
	}
	var found []proxier.Explanation
	var frontends []proxier.Frontend
	var ways []*way
	err = x.look(ctx, func(m *proxier.Model, have proxier.State) {
		for _, f := range pick(m) {
			if e, ok := m.Explain(f, have); ok {
				found = append(found, e)
				frontends = append(frontends, f)
				ways = append(ways, from.to(f, have, host))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	servers, err := x.servers(ctx, frontends)
	if err != nil {
		return nil, err
	}
	var pages []page
	for i, e := range found {
		p := newPage(e, servers)
		p.Way = ways[i]
		pages = append(pages, p)
	}
	return pages, nil
}

// picked reads which frontends are asked for.
func picked(frontend, service string) (func(*proxier.Model) []proxier.Frontend, error) {
	if frontend != "" {
		f, err := proxier.ParseFrontend(frontend)
		return func(*proxier.Model) []proxier.Frontend { return []proxier.Frontend{f} }, err
	}
	namespace, name, ok := strings.Cut(service, "/")
	if !ok || namespace == "" || name == "" {
		return nil, fmt.Errorf("%q is not NAMESPACE/NAME", service)
	}
	return func(m *proxier.Model) []proxier.Frontend {
		return m.FrontendsOf(proxier.Name{Namespace: namespace, Name: name})
	}, nil
}

func write(w http.ResponseWriter, pages []page, asJSON bool) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if asJSON {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct { // a client that went away is no fault
			Frontends []page `json:"frontends"`
		}{pages})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for i, p := range pages {
		if i > 0 {
			fmt.Fprintln(w)
		}
		p.print(w)
	}
}

// page is what is told of one frontend.
type page struct {
	Frontend  string        `json:"frontend"`
	Service   string        `json:"service"`
	Port      string        `json:"port,omitempty"`
	Kind      string        `json:"kind"`
	Losers    []string      `json:"claimedInVainBy,omitempty"`
	Policy    string        `json:"trafficPolicy"`
	Topology  string        `json:"topologyFollowed"`
	Node      string        `json:"node"`
	Zone      string        `json:"zone,omitempty"`
	Scheduler string        `json:"scheduler"`
	Flags     uint32        `json:"flags,omitempty"`
	Affinity  uint32        `json:"affinitySeconds,omitempty"`
	Faults    []string      `json:"faults,omitempty"`
	InKernel  bool          `json:"inKernel"`
	Sets      []string      `json:"sets"`
	Endpoints []endpointRow `json:"endpoints"`
	Draining  []drainRow    `json:"draining,omitempty"`
	Way       *way          `json:"way,omitempty"`
}

type endpointRow struct {
	Address      string   `json:"address"`
	Node         string   `json:"node,omitempty"`
	Zone         string   `json:"zone,omitempty"`
	Ready        bool     `json:"ready"`
	Serving      bool     `json:"serving"`
	Terminating  bool     `json:"terminating"`
	ForZones     []string `json:"hintsForZones,omitempty"`
	ForNodes     []string `json:"hintsForNodes,omitempty"`
	Used         bool     `json:"used"`
	Reason       string   `json:"reason"`
	Weight       uint32   `json:"weight"`
	KernelWeight *uint32  `json:"kernelWeight"` // null: not in the kernel
	Connections  int      `json:"connections"`
}

type drainRow struct {
	Address     string `json:"address"`
	Weight      uint32 `json:"kernelWeight"`
	Connections int    `json:"connections"`
}

// newPage adds what the kernel says now.
func newPage(e proxier.Explanation, all map[proxier.Frontend]map[netip.AddrPort]kernel.RealServer) page {
	servers, there := all[e.Frontend]
	p := page{
		Frontend: e.Frontend.String(), Service: e.Owner.Service.String(), Port: e.Owner.Port, Kind: e.Owner.Kind.String(),
		Policy: "Cluster", Topology: e.Topology.String(), Node: e.Node, Zone: e.Zone,
		Scheduler: e.Options.Scheduler, Flags: uint32(e.Options.Flags), Affinity: e.Options.Timeout, Faults: e.Faults, InKernel: there,
	}
	if e.Local {
		p.Policy, p.Topology = "Local", "no: the policy is Local"
	}
	for _, o := range e.Losers {
		p.Losers = append(p.Losers, o.Service.String())
	}
	for _, s := range e.Sets {
		text := s.Set.String()
		if len(s.Elements) > 0 {
			text += " (" + strings.Join(s.Elements, ", ") + ")"
		}
		p.Sets = append(p.Sets, text)
	}
	used := map[netip.AddrPort]bool{}
	for _, end := range e.Endpoints {
		used[end.Addr] = end.Reason.Used()
		row := endpointRow{
			Address: end.Addr.String(), Node: end.Node, Zone: end.Zone, Ready: end.Ready, Serving: end.Serving, Terminating: end.Terminating,
			ForZones: end.ForZones, ForNodes: end.ForNodes, Used: end.Reason.Used(), Reason: end.Reason.String(), Weight: end.Weight,
		}
		if s, ok := servers[end.Addr]; ok {
			row.KernelWeight, row.Connections = &s.Weight, s.Connections
		}
		p.Endpoints = append(p.Endpoints, row)
	}
	for _, d := range e.Draining {
		if s, ok := servers[d.Addr]; ok && !used[d.Addr] {
			p.Draining = append(p.Draining, drainRow{d.Addr.String(), s.Weight, s.Connections})
		}
	}
	return p
}

func (p page) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("frontend", "%s", p.Frontend)
	line("service", "%s, port %q, %s", p.Service, p.Port, p.Kind)
	if len(p.Losers) > 0 {
		line("in vain", "%s: younger, and want this frontend too", strings.Join(p.Losers, ", "))
	}
	line("policy", "%s", p.Policy)
	line("topology", "%s", p.Topology)
	line("seen from", "node %q, zone %q", p.Node, p.Zone)
	line("scheduler", "%s, flags %#x", p.Scheduler, p.Flags)
	if p.Affinity > 0 {
		line("affinity", "ClientIP, %d s", p.Affinity)
	}
	for _, f := range p.Faults {
		line("fault", "%s", f)
	}
	if !p.InKernel {
		line("kernel", "has no such virtual server")
	}
	line("sets", "%s", strings.Join(p.Sets, ", "))
	line("endpoints", "%d", len(p.Endpoints))
	_ = t.Flush() // a client that went away is no fault
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range p.Endpoints {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", e.Address, e.use(), e.where(), e.kernel(), e.Reason)
	}
	for _, d := range p.Draining {
		fmt.Fprintf(t, "  %s\tdraining\t\tkernel weight %d, connections %d\tnot used any more\n", d.Address, d.Weight, d.Connections)
	}
	_ = t.Flush() // a client that went away is no fault
	if p.Way != nil {
		fmt.Fprintf(w, "from %s: %s\n", p.Way.From, strings.TrimSpace(p.Way.Verdict+" "+strings.Join(p.Way.To, ", ")))
		for _, s := range p.Way.Steps {
			fmt.Fprintf(w, "  %s\n", s)
		}
	}
}

func (e endpointRow) use() string {
	if e.Used {
		return fmt.Sprintf("used, weight %d", e.Weight)
	}
	return "not used"
}

func (e endpointRow) where() string {
	text := fmt.Sprintf("node %q", e.Node)
	if len(e.ForZones) > 0 {
		text += ", hints for zones " + strings.Join(e.ForZones, " ")
	}
	if len(e.ForNodes) > 0 {
		text += ", hints for nodes " + strings.Join(e.ForNodes, " ")
	}
	return text
}

func (e endpointRow) kernel() string {
	if e.KernelWeight == nil {
		return "not in the kernel"
	}
	return fmt.Sprintf("kernel weight %d, connections %d", *e.KernelWeight, e.Connections)
}
