// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	// sshRetry is the rest between two tries at a machine that boots.
	sshRetry = 100 * time.Millisecond
	// sshTry bounds one try: a handshake with a machine that is up and has one
	// busy core takes less than a second.
	sshTry = 10 * time.Second
)

// SSH gives the command line of the system's ssh client for a machine; words
// of a remote command may be added to it.
func (l *Lab) SSH(name string) ([]string, error) {
	m, err := l.machine(name)
	if err != nil {
		return nil, err
	}
	return []string{
		"ssh", "-F", "none", "-p", strconv.Itoa(m.SSHPort), "-i", l.dir.path(clientKeyFile),
		"-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + l.dir.path(knownHostsFile), "root@127.0.0.1",
	}, nil
}

// Run runs a command line in a machine's shell and gives its standard output.
// The error of a command that ended otherwise than with 0 wraps an
// *ssh.ExitError and holds its standard error.
func (l *Lab) Run(ctx context.Context, name, command string) (string, error) {
	m, err := l.machine(name)
	if err != nil {
		return "", err
	}
	client, err := l.dial(ctx, m)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer client.Close()                                      //nolint:errcheck // the command's own end was seen
	stop := context.AfterFunc(ctx, func() { client.Close() }) //nolint:errcheck // ends the command
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return "", fmt.Errorf("%s: open a session: %w", name, err)
	}
	var out, errs bytes.Buffer
	session.Stdout, session.Stderr = &out, &errs
	if err := session.Run(command); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return out.String(), fmt.Errorf("%s: run %q: %w: %s", name, command, err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// WaitSSH returns when the machine has let the lab's key in and answers with
// the expected host key. A changed key or a refused login is final.
func (l *Lab) WaitSSH(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	tick := time.NewTicker(sshRetry)
	defer tick.Stop()
	for {
		client, err := l.dial(ctx, m)
		if err == nil {
			return client.Close()
		}
		var wrongKey *knownhosts.KeyError
		if errors.As(err, &wrongKey) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if p, perr := loadProcess(l.dir.machine(name, processFile)); perr == nil {
			if state, serr := p.State(); serr == nil && state == Stopped {
				return fmt.Errorf("%s: the machine is stopped: see %s, or start it with \"muster lab start %s\"",
					name, l.dir.machine(name, consoleFile), name)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: wait for SSH: %w: last try: %w: see %s", name, context.Cause(ctx), err, l.dir.machine(name, consoleFile))
		case <-tick.C:
		}
	}
}

// dial opens a connection and logs in.
func (l *Lab) dial(ctx context.Context, m machineRecord) (*ssh.Client, error) {
	signer, err := l.dir.ensureClientKey()
	if err != nil {
		return nil, err
	}
	hosts, err := knownhosts.New(l.dir.path(knownHostsFile))
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sshTry)
	defer cancel()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(m.SSHPort))
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the lab's forwarder: %w: run \"muster lab up\" again to restart it", err)
	}
	// The handshake takes no context.
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the handshake
	c, chans, reqs, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User:            "root",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: hosts,
		// Only this type has a line in known_hosts.
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil || !stop() {
		return nil, errors.Join(err, context.Cause(ctx), ignoreClosed(conn.Close()))
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
