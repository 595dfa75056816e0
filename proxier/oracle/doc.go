// SPDX-License-Identifier: Apache-2.0

// Package oracle asks upstream's kube-proxy what it would do, and compares.
//
// It is a module of its own, because it imports k8s.io/kubernetes, and holds
// nothing that is installed. Three questions are asked:
//
//   - Upstream's own tables. The test files of kube-proxy's packages are
//     compiled where they lie in the module cache, as packages of this module
//     (go test -overlay), with a hook in the place of the function that
//     upstream tests. So nothing of upstream is copied, and the next version
//     brings its new cases by itself.
//   - Upstream's rules. Each time a test of upstream programs its (fake)
//     packet filter, packets from everywhere to everywhere are traced through
//     it and through ours.
//   - Random objects in random order, in both implementations.
//
// Where the two differ on purpose, the difference has a name and a reason in
// [Differences] and is listed in testdata; any other fails.
package oracle
