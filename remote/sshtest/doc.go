// SPDX-License-Identifier: Apache-2.0

// Package sshtest is an SSH server inside the test process: commands answered
// by a function, a real SFTP subsystem, forwarding for bastions, and faults on
// demand. It remembers what was asked of it, and listens on loopback only.
package sshtest
