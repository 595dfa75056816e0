// SPDX-License-Identifier: Apache-2.0

// Package proxier makes Kubernetes Services work on one host, with IPVS.
//
// It is three parts in a row, and only the last one touches anything:
//
//   - [Model] takes Services, EndpointSlices, the Node and ServiceCIDRs as
//     they arrive and keeps the [State] the kernel should hold. An event
//     costs as much as the one Service it touches, at any cluster size.
//   - [Diff] compares two States and returns a [Plan]: changes in an order
//     that never leaves a Service without a real server, never accepts a
//     packet before its Service is complete, and never loses track of what
//     is ours.
//   - [Kernel] applies a Plan. proxier/kernel does it by netlink,
//     proxier/proxiertest in memory.
//
// [Proxier] runs them in one loop. The kernel is the only database: after a
// start the loop reads what is there, keeps what is right and changes the
// rest. Nothing is ever flushed.
//
// # What is served
//
// ClusterIP and NodePort, TCP, UDP and SCTP, IPv4 and IPv6, ClientIP
// affinity, topology hints, terminating endpoints as the last resort. A
// NodePort is served on the node's primary addresses unless the
// configuration names others. Load balancer and external addresses are not
// served; their Services keep their ClusterIP and NodePorts.
//
// A Local traffic policy means local endpoints only, for every client: where
// there is none but another node has one, packets are dropped. (Upstream
// lets clients inside the cluster use all endpoints of a NodePort with
// externalTrafficPolicy Local; here such a client on a node without an
// endpoint is dropped like any other.)
package proxier
