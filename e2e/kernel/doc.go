// SPDX-License-Identifier: Apache-2.0

// Package kernel runs the proxier's tests that need a kernel with IPVS where
// there is one: this computer's may have none. One test does so on a lab
// machine, another on a machine with Debian's own kernel that QEMU emulates.
// They need root and the tag vm, the second one also the tag emulated.
//
// The environment says how long the fault tests take: MUSTER_TEST_SERVICES is
// how many Services change, and MUSTER_TEST_POSITIONS after how many of the
// kernel operations the proxier is killed; `all` is after every one.
package kernel
