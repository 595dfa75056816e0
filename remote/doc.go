// SPDX-License-Identifier: Apache-2.0

// Package remote says what can be asked of a machine, as plain values that know
// no transport: a command, its result, and how it is quoted and printed. The
// transports are in the packages below it.
package remote
