// SPDX-License-Identifier: Apache-2.0

// Package rules holds the rules of this repository that no linter knows, as
// tests: which way imports go, what a program may not drag in, and what every
// file has. Exceptions are lists, and the lists may only shrink.
package rules
