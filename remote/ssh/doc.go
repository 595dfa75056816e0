// SPDX-License-Identifier: Apache-2.0

// Package ssh reaches machines over SSH: it checks host keys always, names every
// login method it tried, walks chains of bastions, notices dead links, and runs
// commands, moves files and opens streams as root.
//
// Every blocking call takes a context and returns when it ends, even when the
// machine at the other end is gone. What went wrong at the edge is an error type
// of this package, for errors.As: HostKeyChangedError, HostKeyUnknownError,
// AuthError, UnreachableError, LostError, SudoError.
package ssh
