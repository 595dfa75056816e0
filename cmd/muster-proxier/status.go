// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// statusPages are what the metrics port answers, kube-proxy's and one more:
// /debug/explain.
type statusPages struct {
	metrics http.Handler
	explain http.Handler
	config  *kubeproxy.KubeProxyConfiguration
	profile bool
}

func (p statusPages) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", p.metrics)
	mux.Handle("/debug/explain", p.explain)
	mux.Handle("/healthz", text("ok"))
	mux.Handle("/proxyMode", text("ipvs"))
	mux.HandleFunc("/configz", p.configz)
	if p.profile {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func text(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, body) // a client that went away is no fault
	})
}

// configz shows the configuration in force, with defaults.
func (p statusPages) configz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(map[string]*kubeproxy.KubeProxyConfiguration{kubeproxy.GroupName: p.config})
}
