// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/muster-project/muster/proxier"
)

// metrics keeps kube-proxy's names where the meaning is the same.
type metrics struct {
	registry    *prometheus.Registry
	sync        prometheus.Histogram
	full        prometheus.Histogram
	partial     prometheus.Histogram
	programming prometheus.Histogram
	waited      prometheus.Histogram
	lastSync    prometheus.Gauge
	services    prometheus.Counter
	endpoints   prometheus.Counter
	changes     prometheus.Counter
	errors      prometheus.Counter
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
		sync:        histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time of one pass.", fine),
		full:        histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "Time of one pass that read the whole kernel.", fine),
		partial:     histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time of one pass over what changed.", fine),
		programming: histogram("kubeproxy_network_programming_duration_seconds", "Time from a change in the cluster until the kernel had it.", slow),
		waited:      histogram("muster_proxier_event_to_kernel_seconds", "Time from an event's arrival here until the kernel had it.", fine),
		lastSync:    gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the kernel was right last."),
		services:    counter("kubeproxy_sync_proxy_rules_service_changes_total", "Changed Services that were applied."),
		endpoints:   counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changed EndpointSlices that were applied."),
		changes:     counter("muster_proxier_kernel_changes_total", "Single changes made in the kernel."),
		errors:      counter("muster_proxier_errors_total", "Passes that ended in an error."),
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
		m.errors, m.resyncs, m.frontends, m.draining, m.answers["/healthz"], m.answers["/livez"],
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
	if r.Err != nil {
		m.errors.Inc()
		return
	}
	m.changes.Add(float64(r.Changes))
	m.waited.Observe(r.Waited.Seconds())
	m.lastSync.Set(float64(time.Now().UnixMilli()) / 1000)
	for _, at := range r.Triggered {
		m.programming.Observe(time.Since(at).Seconds())
	}
}

// reason cuts the details off, or every lost event would be a new series.
func reason(why string) string {
	short, _, _ := strings.Cut(why, ":")
	return short
}

func (m *metrics) asked(path string, code int) {
	m.answers[path].WithLabelValues(strconv.Itoa(code)).Inc()
}

// handler answers /metrics and, as kube-proxy does, /proxyMode.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ipvs") // a client that went away is no fault
	})
	return mux
}
