// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	xssh "golang.org/x/crypto/ssh"
)

// HostKeyChangedError is a machine that shows another key than the one known
// for it: it was installed anew, or somebody stands in between.
type HostKeyChangedError struct {
	Address  string // host:port
	Where    string // file:line of the known key, or "the inventory" for a pinned one
	Known    string // type and SHA256 fingerprint of the known key
	Got      string // type and SHA256 fingerprint of the key it showed
	Revoked  bool   // the key it showed is marked @revoked there
	remedies string
}

func (e *HostKeyChangedError) Error() string {
	if e.Revoked {
		return fmt.Sprintf("host key of %s: %s is revoked (%s); do not connect before the machine has a new key", e.Address, e.Got, e.Where)
	}
	return fmt.Sprintf("host key of %s has changed: %s knows %s, the machine shows %s; %s", e.Address, e.Where, e.Known, e.Got, e.remedies)
}

// HostKeyUnknownError is a machine nobody has met, under the policy "refuse".
type HostKeyUnknownError struct {
	Address     string // host:port
	Fingerprint string // type and SHA256 fingerprint of the key it showed
	Line        string // the line that makes it known
	File        string // the known_hosts file the line belongs into
}

func (e *HostKeyUnknownError) Error() string {
	return fmt.Sprintf("host key of %s is unknown: the machine shows %s; compare it with `ssh-keygen -lf` of the key in /etc/ssh on the machine, "+
		"then run `echo '%s' >> %s`, or write firstContact: accept-new into its ssh section", e.Address, e.Fingerprint, e.Line, e.File)
}

// Attempt is one way to log in and what became of it.
type Attempt struct {
	Method  string // as "key /home/o/.ssh/id_ed25519" or "agent key SHA256:…"
	Outcome string
}

// AuthError is a machine that let nobody in.
type AuthError struct {
	User, Address string
	Attempts      []Attempt
	Allowed       []string // methods the machine takes, as it told us
	Err           error
}

func (e *AuthError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log in to %s as %s: ", e.Address, e.User)
	for _, a := range e.Attempts {
		fmt.Fprintf(&b, "%s: %s; ", a.Method, a.Outcome)
	}
	if len(e.Attempts) == 0 {
		b.WriteString("no key and no agent to try; ")
	}
	if len(e.Allowed) > 0 {
		fmt.Fprintf(&b, "the machine takes %s; ", strings.Join(e.Allowed, ", "))
	}
	fmt.Fprintf(&b, "add a public key to ~%s/.ssh/authorized_keys there, or name the right one as ssh.key", e.User)
	return b.String()
}

func (e *AuthError) Unwrap() error { return e.Err }

// Reason says why a machine was not reached.
type Reason string

// Reasons of an UnreachableError.
const (
	Refused     Reason = "connection refused"
	Timeout     Reason = "no answer in time"
	NoRoute     Reason = "no route"
	NoName      Reason = "the name is not known"
	Closed      Reason = "closed before the login" // not an SSH server, or one with too many logins under way
	NoForward   Reason = "the bastion forbids forwarding"
	TooOld      Reason = "no algorithm in common"
	OtherReason Reason = "not reached"
)

// UnreachableError is a machine with which no SSH connection could be made.
type UnreachableError struct {
	Address string // host:port
	Bastion string // host:port of the bastion through which it was tried, if any
	Hop     bool   // the machine is itself a bastion
	Reason  Reason
	Err     error
}

func (e *UnreachableError) Error() string {
	what := e.Address
	if e.Hop {
		what = "bastion " + what
	}
	if e.Bastion != "" {
		what += " through bastion " + e.Bastion
	}
	return fmt.Sprintf("reach %s: %s (%v); %s", what, e.Reason, e.Err, e.remedy())
}

func (e *UnreachableError) remedy() string {
	switch e.Reason {
	case Refused:
		return "is sshd running there, and is the port right?"
	case NoName:
		return "write an address as ssh.host"
	case NoForward:
		return "set AllowTcpForwarding yes in its sshd_config"
	case Closed:
		return "is the machine up, if a forwarder stands before it? else: is it an SSH server, and are its MaxStartups high enough?"
	case TooOld:
		return "update the machine's SSH server: it offers only what is no longer safe"
	}
	return "is the machine up, and does a firewall let this port through?"
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// reasonOf reads why a dial or a handshake failed.
func reasonOf(err error) Reason {
	var dns *net.DNSError
	var open *xssh.OpenChannelError
	var timeout net.Error
	var algorithms *xssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &algorithms):
		return TooOld
	case errors.As(err, &dns) && !dns.IsTimeout:
		return NoName
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return NoRoute
	case errors.As(err, &open) && open.Reason == xssh.Prohibited:
		return NoForward
	case errors.As(err, &open) && open.Reason == xssh.ConnectionFailed:
		return reasonThrough(open.Message)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return OtherReason
}

// reasonThrough reads why a bastion reached nothing. The protocol has one code
// for all causes; OpenSSH adds the system's message, which sshd, run by the init
// system, has in English.
func reasonThrough(message string) Reason {
	switch {
	case strings.Contains(message, "refused"):
		return Refused
	case strings.Contains(message, "timed out"):
		return Timeout
	case strings.Contains(message, "No route"), strings.Contains(message, "unreachable"):
		return NoRoute
	case strings.Contains(message, "not known"), strings.Contains(message, "name resolution"):
		return NoName
	}
	return OtherReason
}

// LostError is a connection that ended while it was in use.
type LostError struct {
	Address string
	Err     error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("connection to %s lost: %v; run again, it goes on where it stopped", e.Address, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// SudoError is a user who is not root and cannot become root unasked.
type SudoError struct {
	User, Address string
	Err           error
}

func (e *SudoError) Error() string {
	return fmt.Sprintf("become root on %s as %s: %v; as root there run `echo '%s ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/muster` (and install sudo if it is missing), or write user: root",
		e.Address, e.User, e.Err, e.User)
}

func (e *SudoError) Unwrap() error { return e.Err }
