// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
)

// scraped returns what /metrics says.
func scraped(t *testing.T, m *metrics) string {
	t.Helper()
	w := get(m.handler(), "/metrics")
	if w.Code != 200 {
		t.Fatalf("/metrics answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	m := newMetrics()
	h := newHealth(time.Now, time.Minute)
	get(h.handler(m), "/healthz")
	m.follow(
		func() proxier.Pending { return proxier.Pending{Services: 3, Slices: 4} },
		func() proxier.Survey {
			return proxier.Survey{NoLocalInternal: 5, NoLocalExternal: 6, Conflicts: make([]proxier.Conflict, 7), Faults: make([]proxier.Fault, 8)}
		})
	m.report(proxier.Report{Full: true, Why: "events were lost: too many", Changes: 7, Frontends: 3, Triggered: []time.Time{time.Now(), time.Now().Add(-time.Hour)}})
	refused := &proxier.ChangeError{Err: unix.EEXIST}
	m.report(proxier.Report{Slices: 2, Draining: 2, Err: fmt.Errorf("a pass: %w", errors.Join(refused, refused, errors.New("no"), errors.Join(unix.ENOBUFS)))})
	body := scraped(t, m)
	for _, line := range []string{
		"kubeproxy_sync_proxy_rules_duration_seconds_count 2",
		"kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
		"kubeproxy_sync_partial_proxy_rules_duration_seconds_count 1",
		"kubeproxy_network_programming_duration_seconds_count 1",
		"kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
		"kubeproxy_sync_proxy_rules_service_changes_pending 3",
		"kubeproxy_sync_proxy_rules_endpoint_changes_pending 4",
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"} 5`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"} 6`,
		`kubeproxy_proxy_healthz_total{code="503"} 1`,
		"muster_proxier_conflicts 7",
		"muster_proxier_service_faults 8",
		"muster_proxier_draining_real_servers 2",
		`muster_proxier_full_comparisons_total{why="events were lost"} 1`,
		`muster_proxier_drift_changes_total{why="events were lost"} 7`,
		"muster_proxier_kernel_changes_total 7",
		`muster_proxier_errors_total{kind="EEXIST"} 1`,
		`muster_proxier_errors_total{kind="ENOBUFS"} 1`,
		`muster_proxier_errors_total{kind="other"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, name := range []string{"kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.", "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1."} {
		if !strings.Contains(body, name) {
			t.Errorf("no %s", name)
		}
	}
}

// countersOf is counters over a Model with two Services, and the numbers they read.
func countersOf(t *testing.T) (*proxier.Model, map[proxier.Frontend]kernel.Stats, *metrics) {
	t.Helper()
	model := proxier.NewModel(proxier.Config{Node: "here"})
	model.SetNode(proxier.Node{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	for i, name := range []string{"web", "idle"} {
		model.SetService(proxier.Service{
			Name: proxier.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(7 + i)})},
			Ports: []proxier.Port{{Name: "http", Proto: proxier.TCP, Port: 80, NodePort: uint16(30080 + i)}},
		})
	}
	model.Update()
	now := map[proxier.Frontend]kernel.Stats{}
	read := func(context.Context) (map[proxier.Frontend]kernel.Stats, error) {
		copied := map[proxier.Frontend]kernel.Stats{}
		for f, s := range now {
			copied[f] = s
		}
		return copied, nil
	}
	look := func(_ context.Context, f func(*proxier.Model, proxier.State)) error {
		f(model, proxier.State{})
		return nil
	}
	m := newMetrics()
	m.registry.MustRegister(newCounters(read, look, slog.New(slog.DiscardHandler)))
	return model, now, m
}

func frontend(text string) proxier.Frontend {
	return proxier.Frontend{Addr: netip.MustParseAddrPort(text), Proto: proxier.TCP}
}

func TestCounters(t *testing.T) {
	model, now, m := countersOf(t)
	web := `{namespace="default",port="http",service="web"}`
	connections := func(what string, want string) {
		t.Helper()
		if body := scraped(t, m); !strings.Contains(body, "muster_proxier_service_connections_total"+web+" "+want+"\n") {
			t.Errorf("%s: want %s connections, got\n%s", what, want, grep(body, "muster_proxier_service"))
		}
	}
	now[frontend("10.96.0.7:80")] = kernel.Stats{Connections: 2, PacketsIn: 3, PacketsOut: 4, BytesIn: 5, BytesOut: 6}
	now[frontend("192.0.2.1:30080")] = kernel.Stats{Connections: 10}
	now[frontend("10.96.0.8:80")] = kernel.Stats{}
	now[frontend("198.51.100.1:80")] = kernel.Stats{Connections: 99}
	connections("two frontends of one port", "12")
	body := scraped(t, m)
	for _, line := range []string{
		`muster_proxier_service_packets_total{direction="in",namespace="default",port="http",service="web"} 3`,
		`muster_proxier_service_packets_total{direction="out",namespace="default",port="http",service="web"} 4`,
		`muster_proxier_service_bytes_total{direction="in",namespace="default",port="http",service="web"} 5`,
		`muster_proxier_service_bytes_total{direction="out",namespace="default",port="http",service="web"} 6`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if strings.Contains(body, `service="idle"`) || strings.Contains(body, " 99\n") {
		t.Errorf("a Service nobody used, or a foreign virtual server:\n%s", grep(body, "muster_proxier_service"))
	}
	delete(now, frontend("192.0.2.1:30080"))
	connections("a frontend is gone", "12")
	now[frontend("10.96.0.7:80")] = kernel.Stats{Connections: 1}
	connections("a virtual server was made anew", "13")
	delete(now, frontend("10.96.0.7:80"))
	connections("no frontend is left", "13")
	model.DeleteService(proxier.Name{Namespace: "default", Name: "web"})
	model.Update()
	if body := scraped(t, m); strings.Contains(body, `service="web"`) {
		t.Errorf("a Service that is gone:\n%s", grep(body, "muster_proxier_service"))
	}
}

func TestCountersThatCannotBeRead(t *testing.T) {
	m := newMetrics()
	read := func(context.Context) (map[proxier.Frontend]kernel.Stats, error) { return nil, errors.New("no") }
	m.registry.MustRegister(newCounters(read, nil, slog.New(slog.DiscardHandler)))
	if body := scraped(t, m); !strings.Contains(body, "muster_proxier_frontends") {
		t.Error("the other metrics are missing too")
	}
}

func grep(text, word string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}
