// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/muster-project/muster/remote"
)

// Conn is a connection to one host, as root. It is safe for concurrent use;
// sessions, uploads and streams share it.
type Conn struct {
	target    hop
	keepAlive time.Duration
	clients   []*xssh.Client // the bastions' and at the end the host's
	link      *link          // below the host's client

	// life ends with the connection, and says why as its cause. It is no
	// caller's context: the connection outlives the call that made it.
	life context.Context
	end  context.CancelCauseFunc

	rootMu sync.Mutex
	isRoot bool // sudo was asked and agreed
}

// ErrClosed is what calls on a closed connection or session end with.
var ErrClosed = errors.New("closed")

// Address is the host:port the connection leads to.
func (c *Conn) Address() string { return c.target.address() }

func (c *Conn) client() *xssh.Client { return c.clients[len(c.clients)-1] }

// Close ends the connection and everything that runs over it.
func (c *Conn) Close() error {
	c.end(fmt.Errorf("connection to %s: %w", c.Address(), ErrClosed))
	c.closeChain()
	return nil
}

func (c *Conn) closeChain() {
	if c.link != nil {
		c.link.Close() // without waiting for a peer that may be gone
	}
	for i := len(c.clients) - 1; i >= 0; i-- {
		c.clients[i].Close()
	}
}

// watch notices that the machine or the network ended the connection.
func (c *Conn) watch() {
	err := c.client().Wait()
	if f := c.link.failure(); f != nil {
		err = f
	}
	c.lose(err)
}

func (c *Conn) lose(err error) {
	c.end(&LostError{Address: c.Address(), Err: err})
	c.closeChain()
}

// keepAwake asks an idle connection for a sign of life. Anything the machine
// sends counts, so that a slow link with much under way is not taken for dead.
func (c *Conn) keepAwake() {
	tick := time.NewTicker(c.keepAlive)
	defer tick.Stop()
	asking := make(chan struct{}, 1)
	for {
		select {
		case <-c.life.Done():
			return
		case <-tick.C:
		}
		if silence := c.link.silence(); silence > 2*c.keepAlive {
			c.lose(fmt.Errorf("no sign of life for %s", silence.Round(time.Millisecond)))
			return
		}
		select {
		case asking <- struct{}{}:
			go func() {
				defer func() { <-asking }()
				// The answer may be "no": OpenSSH knows no such request, and answers.
				_, _, _ = c.client().SendRequest("keepalive@openssh.com", true, nil)
			}()
		default: // the last question is still under way
		}
	}
}

// DialContext opens a stream from the host to an address: network is "tcp" with
// host:port, or "unix" with a path. The host's own user opens it, sudo does not help.
func (c *Conn) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := await(ctx, c.life, func() (net.Conn, error) { return c.client().Dial(network, address) }, func(n net.Conn) { n.Close() })
	if err != nil {
		return nil, fmt.Errorf("open %s %s from %s: %w", network, address, c.Address(), err)
	}
	return conn, nil
}

// await runs f, and leaves it behind when a context ends: the library's calls
// wait for the machine's answer and take no context. What a call left behind
// still brings is thrown away.
func await[T any](ctx, life context.Context, f func() (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	leave := func(ended context.Context) (T, error) {
		go func() {
			if r := <-done; r.err == nil {
				discard(r.value)
			}
		}()
		var none T
		return none, context.Cause(ended)
	}
	select {
	case r := <-done:
		if r.err != nil && life.Err() != nil {
			return r.value, context.Cause(life)
		}
		return r.value, r.err
	case <-ctx.Done():
		return leave(ctx)
	case <-life.Done():
		return leave(life)
	}
}

// maxOutput bounds what Run collects. Bigger things have a Session to flow through.
const maxOutput = 16 << 20

// Run runs a command as root and waits for it. A command that ends badly is a
// *remote.ExitError; the result holds what it wrote even then.
func (c *Conn) Run(ctx context.Context, cmd remote.Cmd) (remote.Result, error) {
	s, err := c.Start(ctx, cmd)
	if err != nil {
		return remote.Result{}, err
	}
	return s.collect(cmd)
}

// collect feeds the command its input, gathers its output and waits.
func (s *Session) collect(cmd remote.Cmd) (remote.Result, error) {
	defer s.Close()
	go func() {
		// A command may end without reading its input; what counts is how it ends.
		_, _ = s.Write(cmd.Stdin)
		_ = s.CloseWrite()
	}()
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(s, maxOutput+1))
	if n > maxOutput {
		return remote.Result{}, fmt.Errorf("run %s on %s: more than %d MiB of output", cmd, s.conn.Address(), maxOutput>>20)
	}
	if wait := s.Wait(); wait != nil {
		err = wait
	}
	return remote.Result{Stdout: out.Bytes(), Stderr: s.stderr.bytes()}, err
}

// asRoot puts sudo before a command line where the user is not root. This is
// the only place that does.
func (c *Conn) asRoot(ctx context.Context, argv []string) ([]string, error) {
	if c.target.user == "root" {
		return argv, nil
	}
	if err := c.askSudo(ctx); err != nil {
		return nil, err
	}
	return append([]string{"sudo", "-n", "--"}, argv...), nil
}

// askSudo finds out once whether sudo lets the user in unasked. Its own command
// then fails for its own reasons only, and no message needs to be read.
func (c *Conn) askSudo(ctx context.Context) error {
	c.rootMu.Lock()
	defer c.rootMu.Unlock()
	if c.isRoot {
		return nil
	}
	cmd := remote.Cmd{Argv: []string{"sudo", "-n", "--", "true"}}
	s, err := c.startCommand(ctx, cmd, cmd.Argv)
	if err != nil {
		return err
	}
	_, err = s.collect(cmd)
	var exit *remote.ExitError
	if errors.As(err, &exit) {
		return &SudoError{User: c.target.user, Address: c.Address(), Err: err}
	}
	c.isRoot = err == nil
	return err
}
