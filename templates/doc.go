// SPDX-License-Identifier: Apache-2.0

// Package templates renders the text that other programs read on a host:
// systemd units, and the configuration of Kubernetes' programs, containerd,
// flannel and the proxier.
//
// There is one embedded file, one input struct and one Render method per
// output. A field that is empty although the output needs it is an error, as
// is a template that asks for a field which does not exist. Templates hold
// `if` and `range` only; whatever has to be computed is computed before.
//
// Outputs are pure functions of their input, so the hash of the bytes says
// whether a host has the right ones.
package templates
