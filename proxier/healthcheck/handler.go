// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// weightHeader lets a load balancer share its connections by the number of
// endpoints of each node.
const weightHeader = "X-Load-Balancing-Endpoint-Weight"

// answer is the body, with kube-proxy's names.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints int  `json:"localEndpoints"`
	ProxyHealthy   bool `json:"serviceProxyHealthy"`
}

// handler answers for whatever Service has the port when it is asked. Every
// path is answered, as kube-proxy does: load balancers ask /healthz, / and
// others.
func (s *Servers) handler(port uint16) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		check, ok := s.check(port)
		if !ok {
			http.Error(w, "this port checks no Service any more", http.StatusServiceUnavailable)
			return
		}
		a := answer{LocalEndpoints: check.Local, ProxyHealthy: s.Healthy == nil || s.Healthy()}
		a.Service.Namespace, a.Service.Name = check.Service.Namespace, check.Service.Name
		body, err := json.MarshalIndent(a, "", "\t")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set(weightHeader, strconv.Itoa(check.Local))
		if check.Local == 0 || !a.ProxyHealthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(body) // a client that went away is no fault
	})
}
