// SPDX-License-Identifier: Apache-2.0

// Package scenarios runs muster as a user does, on the lab's virtual machines,
// from bare machines to a cluster and back. Its tests need the tag vm, root,
// and a bundle (`muster bundle build`); `make e2e` sees to all of it.
//
// With MUSTER_E2E_KEEP=1 the machines stay up after a failure, for a look:
// `muster lab list` and `muster lab ssh --name e2e cp-1`.
package scenarios
