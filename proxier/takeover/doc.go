// SPDX-License-Identifier: Apache-2.0

// Package takeover clears what kube-proxy left on a host once another proxy
// carries the Services there.
//
// kube-proxy leaves everything in the kernel when it ends, and that is what
// makes a takeover without a gap possible: its rules go on carrying traffic
// until the successor's are complete. Then they have to go, for they would
// send new connections to endpoints that are long gone.
//
//   - [Host.Find] lists what is there, of all of kube-proxy's modes: its
//     chains in iptables (nft and legacy) and the rules that lead into them,
//     its nftables tables, its ipsets, its packet counters, kube-ipvs0, and
//     its virtual servers.
//   - [Host.Clear] removes it, in an order in which nothing that is left
//     refers to what is gone.
//   - [Handover] does both, again and again until nothing is left: virtual
//     servers with open connections wait for these to end.
//
// # Established connections
//
// In the iptables and nftables modes a connection lives in the connection
// tracking table, which goes on rewriting its packets without the rule that
// began it. In ipvs mode it lives in IPVS, whose virtual servers the successor
// takes over in place; those that nobody serves any more get weight 0 and go
// when their connections have ended. An address of kube-ipvs0 that sockets of
// the host are bound to stays as long as they do.
//
// # What is kube-proxy's
//
// Names decide: the kubelet keeps chains of its own beside kube-proxy's
// (KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT), and so do network
// policy engines; theirs are not in the list here. A virtual server is
// kube-proxy's if its address is one of kube-ipvs0's, or if it is on an
// address of this host with a port that kube-proxy's ipsets name as a
// NodePort. IPVS has other users, and theirs stay.
package takeover
