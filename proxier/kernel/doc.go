// SPDX-License-Identifier: Apache-2.0

// Package kernel is the data plane of the proxier in a real Linux kernel. It
// starts no process.
//
//   - IPVS by generic netlink, many messages in one send (ipvs*.go, genl.go).
//   - One nftables table, `inet muster`, whose sets change and whose rules do
//     not (rules.go, sets.go).
//   - One local route per service prefix, marked with a routing protocol
//     number of its own (routes.go).
//   - A few sysctls, with what they were before kept in a file (sysctl.go).
//
// # The way of a packet
//
// A service prefix is routed `local`, so a packet to any ClusterIP arrives in
// the INPUT hook like one to the host itself, and the preferred source of
// that route is what the host's own connections to Services come from. A
// packet to an external frontend gets a mark that a routing rule sends to the
// same place (capture.go).
//
// At priority -10 our table refuses whatever is no complete frontend; at 98
// IPVS rewrites the destination and sends the packet on through OUTPUT and
// POSTROUTING, where the source is rewritten if the answer would not find its
// way back otherwise. Connections from the host itself meet the same refusal
// in OUTPUT at -99, just before IPVS at -98.
//
// Where a client inside the cluster has to get other endpoints than one
// outside, NAT first changes the destination to the Service's ClusterIP. IPVS
// then changes connection tracking's idea of the answer, so that later
// packets of the connection go straight to the pod.
//
// It needs Linux 5.10 or newer with IP_VS, IP_VS_NFCT and NF_TABLES_INET.
package kernel
