// SPDX-License-Identifier: Apache-2.0

// Package kernel runs the proxier's tests that need a kernel with IPVS on a
// lab machine: this computer's kernel may have none. Its test needs the tag vm
// and root.
package kernel
