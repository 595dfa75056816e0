// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// metrics keeps kube-proxy's names where the meaning is the same.
type metrics struct {
	registry    *prometheus.Registry
	started     time.Time
	sync        prometheus.Histogram
	full        prometheus.Histogram
	partial     prometheus.Histogram
	programming prometheus.Histogram
	waited      prometheus.Histogram
	lastSync    prometheus.Gauge
	services    prometheus.Counter
	endpoints   prometheus.Counter
	changes     prometheus.Counter
	errors      *prometheus.CounterVec
	drift       *prometheus.CounterVec
	queued      prometheus.Gauge
	resyncs     *prometheus.CounterVec
	frontends   prometheus.Gauge
	draining    prometheus.Gauge
	answers     map[string]*prometheus.CounterVec
}

func newMetrics() *metrics {
	fine := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	slow := prometheus.ExponentialBuckets(0.001, 2, 19)  // 1 ms to 4 min
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		started:     time.Now(),
		sync:        histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time of one pass.", fine),
		full:        histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "Time of one pass that read the whole kernel.", fine),
		partial:     histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time of one pass over what changed.", fine),
		programming: histogram("kubeproxy_network_programming_duration_seconds", "Time from a change in the cluster until the kernel had it.", slow),
		waited:      histogram("muster_proxier_event_to_kernel_seconds", "Time from an event's arrival here until the kernel had it.", fine),
		lastSync:    gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the kernel was right last."),
		services:    counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changed Services that were applied."),
		endpoints:   counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changed EndpointSlices that were applied."),
		changes:     counter("muster_proxier_kernel_changes_total", "Single changes made in the kernel."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_proxier_errors_total", Help: "Errors of passes, by the kernel's name of the error."}, []string{"kind"}),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_proxier_drift_changes_total", Help: "Single changes by passes that read the whole kernel, by the pass's reason."}, []string{"why"}),
		queued: gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a change waited for the kernel last."),
		resyncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_proxier_full_comparisons_total", Help: "Passes that read the whole kernel, by reason."}, []string{"why"}),
		frontends: gauge("muster_proxier_frontends", "Virtual servers in force."),
		draining:  gauge("muster_proxier_draining_real_servers", "Real servers that only finish their connections."),
		answers: map[string]*prometheus.CounterVec{
			"/healthz": answerCounter("kubeproxy_proxy_healthz_total"),
			"/livez":   answerCounter("kubeproxy_proxy_livez_total"),
		},
	}
	m.registry.MustRegister(m.sync, m.full, m.partial, m.programming, m.waited, m.lastSync, m.services, m.endpoints, m.changes,
		m.errors, m.drift, m.queued, m.resyncs, m.frontends, m.draining, m.answers["/healthz"], m.answers["/livez"],
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func answerCounter(name string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "Answers by status code."}, []string{"code"})
}

func (m *metrics) report(r proxier.Report) {
	m.sync.Observe(r.Duration.Seconds())
	if r.Full {
		m.full.Observe(r.Duration.Seconds())
		m.resyncs.WithLabelValues(reason(r.Why)).Inc()
	} else {
		m.partial.Observe(r.Duration.Seconds())
	}
	m.services.Add(float64(r.Services))
	m.endpoints.Add(float64(r.Slices))
	m.frontends.Set(float64(r.Frontends))
	m.draining.Set(float64(r.Draining))
	m.queued.Set(seconds(time.Now().Add(-r.Waited)))
	if r.Err != nil {
		for kind := range kinds(r.Err) {
			m.errors.WithLabelValues(kind).Inc()
		}
		return
	}
	m.changes.Add(float64(r.Changes))
	if r.Full {
		m.drift.WithLabelValues(reason(r.Why)).Add(float64(r.Changes))
	}
	m.waited.Observe(r.Waited.Seconds())
	m.lastSync.Set(seconds(time.Now()))
	for _, at := range r.Triggered {
		// What happened before this program started did not wait for it.
		if at.After(m.started) {
			m.programming.Observe(time.Since(at).Seconds())
		}
	}
}

// reason cuts the details off, or every lost event would be a new series.
func reason(why string) string {
	short, _, _ := strings.Cut(why, ":")
	return short
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// kinds names the errors joined in one: what the kernel calls it (EEXIST,
// ENOBUFS, ...), or other.
func kinds(err error) map[string]struct{} {
	found := map[string]struct{}{}
	collectKinds(err, found)
	return found
}

// collectKinds goes down every branch, where errors.As ends at the first find.
func collectKinds(err error, into map[string]struct{}) {
	//nolint:errorlint // it is the unwrapping itself
	switch e := err.(type) {
	case unix.Errno:
		into[cmp.Or(unix.ErrnoName(e), "other")] = struct{}{}
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			collectKinds(part, into)
		}
	case interface{ Unwrap() error }:
		collectKinds(e.Unwrap(), into)
	default:
		into["other"] = struct{}{}
	}
}

// follow adds what is known elsewhere when somebody asks: what waits in the
// inbox, and what the last survey found.
func (m *metrics) follow(pending func() proxier.Pending, survey func() proxier.Survey) {
	value := func(name, help string, labels prometheus.Labels, read func() int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(read()) }))
	}
	value("kubeproxy_sync_proxy_rules_service_changes_pending", "Changed Services that wait for a pass.", nil, func() int { return pending().Services })
	value("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changed EndpointSlices that wait for a pass.", nil, func() int { return pending().Slices })
	const noLocal, help = "kubeproxy_sync_proxy_rules_no_local_endpoints_total", "Frontends with a Local traffic policy whose endpoints are all on other nodes."
	value(noLocal, help, prometheus.Labels{"traffic_policy": "internal"}, func() int { return survey().NoLocalInternal })
	value(noLocal, help, prometheus.Labels{"traffic_policy": "external"}, func() int { return survey().NoLocalExternal })
	value("muster_proxier_conflicts", "Frontends that more than one Service wants.", nil, func() int { return len(survey().Conflicts) })
	value("muster_proxier_service_faults", "Things that Services ask for and cannot have.", nil, func() int { return len(survey().Faults) })
}

func (m *metrics) asked(path string, code int) {
	m.answers[path].WithLabelValues(strconv.Itoa(code)).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// neighbours counts firewalls and bridges that Services may suffer from.
func (m *metrics) neighbours(found func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_proxier_neighbour_findings", Help: "Firewalls and bridges on this host that Services may suffer from; the log names them."}, found))
}
