// SPDX-License-Identifier: Apache-2.0

// Package healthcheck answers the health checks of load balancers for
// Services with externalTrafficPolicy Local: one HTTP server per
// healthCheckNodePort, which says how many endpoints this node has.
//
// Status, headers and body are those of kube-proxy, which load balancers of
// clouds are set up for: 200 while there is a local endpoint and the proxier
// works, 503 otherwise, and the number of endpoints in
// X-Load-Balancing-Endpoint-Weight.
package healthcheck
