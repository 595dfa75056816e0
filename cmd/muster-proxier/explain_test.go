// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/walk"
)

// explained is the handler over a Service with endpoints of every sort.
func explained(t *testing.T) http.Handler {
	t.Helper()
	model := proxier.NewModel(proxier.Config{Node: "w-1"})
	model.SetNode(proxier.Node{Zone: "a", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	model.SetServiceCIDR("kubernetes", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")})
	web := proxier.Service{
		Name: proxier.Name{Namespace: "default", Name: "web"}, Created: time.Unix(1, 0), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
		BalancerIPs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		Ports: []proxier.Port{{Name: "http", Proto: proxier.TCP, Port: 80, NodePort: 30080}}, ExternalLocal: true, Affinity: time.Hour,
	}
	late := web
	late.Name.Name, late.Created, late.Faults = "late", time.Unix(2, 0), []string{"no such scheduler"}
	model.SetService(web)
	model.SetService(late)
	end := func(addr, node, zone string, ready bool) proxier.Endpoint {
		return proxier.Endpoint{Addr: netip.MustParseAddr(addr), Node: node, Zone: zone, Ready: ready, Serving: ready, ForZones: []string{zone}}
	}
	model.SetSlice(proxier.Slice{
		Name: proxier.Name{Namespace: "default", Name: "web-1"}, Service: web.Name, Ports: []proxier.SlicePort{{Name: "http", Proto: proxier.TCP, Port: 8080}},
		Endpoints: []proxier.Endpoint{end("10.244.0.2", "w-1", "a", true), end("10.244.0.3", "w-1", "a", false), end("10.244.1.2", "w-2", "b", true)},
	})
	model.Update()
	have := model.Want().Clone()
	cluster := frontend("10.96.0.7:80")
	server := have.Servers[cluster]
	server.Dests = append(server.Dests[:len(server.Dests):len(server.Dests)], proxier.Dest{Addr: netip.MustParseAddrPort("10.244.9.9:8080")})
	have.Servers[cluster] = server
	return explainer{
		look: func(_ context.Context, f func(*proxier.Model, proxier.State)) error { f(model, have); return nil },
		servers: func(context.Context, []proxier.Frontend) (map[proxier.Frontend]map[netip.AddrPort]kernel.RealServer, error) {
			return map[proxier.Frontend]map[netip.AddrPort]kernel.RealServer{cluster: {
				netip.MustParseAddrPort("10.244.0.2:8080"): {Weight: 1, Connections: 3},
				netip.MustParseAddrPort("10.244.9.9:8080"): {Connections: 2},
			}}, nil
		},
		host: func() (walk.Host, error) {
			return walk.Host{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, nil
		},
	}
}

func TestExplainPage(t *testing.T) {
	h := explained(t)
	golden.Equal(t, "explain.txt", get(h, "/debug/explain?service=default/web&from=203.0.113.7").Body.Bytes())
	answer := get(h, "/debug/explain?frontend=10.96.0.7:80/tcp&format=json")
	var indented bytes.Buffer
	if err := json.Indent(&indented, answer.Body.Bytes(), "", "  "); err != nil {
		t.Fatalf("%s: %v", answer.Body, err)
	}
	golden.Equal(t, "explain.json", indented.Bytes())
}

func TestExplainQuestions(t *testing.T) {
	h := explained(t)
	for question, want := range map[string]int{
		"":                             400,
		"?frontend=10.96.0.7":          400,
		"?service=web":                 400,
		"?frontend=10.96.0.99:80/tcp":  404,
		"?service=default/none":        404,
		"?service=default/late":        200,
		"?frontend=192.0.2.1:30080":    200,
		"?frontend=10.96.0.7:80/udp":   404,
		"?frontend=198.51.100.9:80/tc": 400,
		"?service=default/web&from=x":  400,
	} {
		if got := get(h, "/debug/explain"+question); got.Code != want {
			t.Errorf("%q answers %d, want %d: %s", question, got.Code, want, got.Body)
		}
	}
}

func TestStatusPages(t *testing.T) {
	whole := &kubeproxy.KubeProxyConfiguration{HostnameOverride: "w-1"}
	for _, profile := range []bool{false, true} {
		h := statusPages{metrics: newMetrics().handler(), explain: explained(t), config: whole, profile: profile}.handler()
		for path, want := range map[string]string{
			"/proxyMode": "ipvs", "/healthz": "ok", "/metrics": "muster_proxier_frontends", "/debug/explain": "",
			"/configz": `{"kubeproxy.config.k8s.io":{"clientConnection"`,
		} {
			if got := get(h, path); !strings.Contains(got.Body.String(), want) || got.Code == 404 {
				t.Errorf("%s answers %d %s", path, got.Code, got.Body)
			}
		}
		if got := get(h, "/debug/pprof/cmdline").Code; (got == 200) != profile {
			t.Errorf("profiling %t: pprof answers %d", profile, got)
		}
	}
}

func TestWays(t *testing.T) {
	h := explained(t)
	for from, want := range map[string]string{
		"203.0.113.7":  "from 203.0.113.7: balanced 10.244.0.2:8080\n",
		"203.0.114.7":  "from 203.0.114.7: dropped\n",
		"192.0.2.1":    "from 192.0.2.1: dropped\n",
		"127.0.0.1":    "from 127.0.0.1: dropped\n",
		"2001:db8::1":  "",
		"10.244.0.5%x": "from 10.244.0.5: dropped\n",
	} {
		got := get(h, "/debug/explain?frontend=198.51.100.9:80&from="+url.QueryEscape(from)).Body.String()
		if _, way, _ := strings.Cut(got, "\nfrom "); !strings.HasPrefix("from "+way, want) || want == "" && way != "" {
			t.Errorf("from %s: %q, want %q", from, way, want)
		}
	}
}
