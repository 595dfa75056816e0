// SPDX-License-Identifier: Apache-2.0

// Package inventory is the file a person writes: which machines, what they are
// for, and how to reach them. Parse turns it into a plain value or into every
// fault it has, each with its path and line; no host is contacted and no other
// file is read. What is learnt from hosts later lives in package facts, never
// here.
//
// The order of hosts, roles and keys in the file means nothing: two files that
// differ only in order parse to equal values. Only the order of CIDRs counts,
// because Kubernetes takes the first one as a cluster's primary family.
package inventory
