// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"cmp"
	"path/filepath"
	"time"
)

// Options are what the operator's machine contributes to a connection. The
// zero value works where nothing of a home directory is needed.
type Options struct {
	// Home replaces "~/", and holds .ssh/known_hosts and the usual key files.
	Home string
	// AgentSocket is where the SSH agent listens, as SSH_AUTH_SOCK says; empty
	// without an agent.
	AgentSocket string
	// ConfigFile is the OpenSSH client configuration that decides what the
	// inventory leaves open; empty for Home/.ssh/config. It may be missing.
	ConfigFile string
	// Timeout bounds reaching and entering each machine of a chain; 15 s when zero.
	Timeout time.Duration
	// KeepAlive is how often an idle connection is asked for a sign of life; 10 s
	// when zero. A dead link is noticed after at most three times as long.
	KeepAlive time.Duration
	// Logf takes a line about something the operator should know, as a host key
	// written on first contact. It may be nil.
	Logf func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 15*time.Second)
	o.KeepAlive = cmp.Or(o.KeepAlive, 10*time.Second)
	if o.ConfigFile == "" && o.Home != "" {
		o.ConfigFile = filepath.Join(o.Home, ".ssh", "config")
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}
