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
// ClusterIP, NodePort, external and load balancer addresses; TCP, UDP and
// SCTP; IPv4 and IPv6; ClientIP affinity, source ranges, topology hints,
// terminating endpoints as the last resort. A NodePort is served on the
// node's primary addresses unless the configuration names others.
//
// An external address is no address of this host: packets to its frontends
// are captured, whatever else happens to the rest of it.
//
// # Local traffic policies
//
// Internal: local endpoints only, for every client of the ClusterIP; where
// there is none but another node has one, packets are dropped.
//
// External: the same for clients outside the cluster, who are seen with their
// own address. Pods and the host itself are led to the ClusterIP instead, and
// so to all endpoints ([SetSplit]); where the ClusterIP has local endpoints
// only, to a virtual server beside it that is open to nobody else
// ([SplitTarget]).
package proxier
