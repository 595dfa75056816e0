// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	xssh "golang.org/x/crypto/ssh"

	"github.com/muster-project/muster/remote"
)

// Session is a command that runs on the host. Reading gives its standard
// output, writing goes to its standard input; both may go on at once. When the
// context it was started with ends, or the connection, all its calls return and
// the command is told to stop: its input ends and it is sent SIGTERM. OpenSSH
// does not deliver signals to root's commands (seen with 9.2), so those that must
// not go on have to heed the end of their input.
type Session struct {
	conn   *Conn
	cmd    remote.Cmd
	raw    *xssh.Session
	stdin  *pipe
	stdout *pipe
	stderr *tail

	once  sync.Once
	err   error         // how it ended; valid when done is closed
	done  chan struct{} // closed when it has ended
	stops []func() bool
}

// Start starts a command as root. Its stdin is the session; cmd.Stdin is not used.
func (c *Conn) Start(ctx context.Context, cmd remote.Cmd) (*Session, error) {
	argv, err := c.asRoot(ctx, cmd.Argv)
	if err != nil {
		return nil, err
	}
	return c.startCommand(ctx, cmd, argv)
}

// request is what a session asks the SSH server for.
type request func(*xssh.Session) error

// execute asks for a command line.
func execute(argv []string) request {
	return func(s *xssh.Session) error {
		line, err := remote.Quote(argv)
		if err != nil {
			return err
		}
		return s.Start(line)
	}
}

// subsystem asks for a service of the SSH server itself. It has no exit code.
func subsystem(name string) request {
	return func(s *xssh.Session) error { return s.RequestSubsystem(name) }
}

// channel is an open session with its streams.
type channel struct {
	*xssh.Session
	stdin          io.WriteCloser
	stdout, stderr io.Reader
}

func (c *Conn) open(ask request) (ch channel, err error) {
	if ch.Session, err = c.client().NewSession(); err != nil {
		return ch, err
	}
	defer func() {
		if err != nil {
			ch.Close()
		}
	}()
	var in, out, errOut error
	ch.stdin, in = ch.StdinPipe()
	ch.stdout, out = ch.StdoutPipe()
	ch.stderr, errOut = ch.StderrPipe()
	if err := errors.Join(in, out, errOut); err != nil {
		return ch, err
	}
	return ch, ask(ch.Session)
}

// begin opens a session and sets its streams flowing. Its end is up to the caller.
func (c *Conn) begin(ctx context.Context, cmd remote.Cmd, ask request) (*Session, channel, error) {
	ch, err := await(ctx, c.life, func() (channel, error) { return c.open(ask) }, func(ch channel) { ch.Close() })
	if err != nil {
		return nil, ch, fmt.Errorf("start %s on %s: %w", cmd, c.Address(), err)
	}
	s := &Session{conn: c, cmd: cmd, raw: ch.Session, stdin: newPipe(), stdout: newPipe(), stderr: &tail{}, done: make(chan struct{})}
	s.stops = []func() bool{
		context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) }),
		context.AfterFunc(c.life, func() { s.abort(context.Cause(c.life)) }),
	}
	go s.feed(ch.stdin)
	return s, ch, nil
}

// startCommand starts a command line; the session ends with its exit code.
func (c *Conn) startCommand(ctx context.Context, cmd remote.Cmd, argv []string) (*Session, error) {
	s, ch, err := c.begin(ctx, cmd, execute(argv))
	if err != nil {
		return nil, err
	}
	errDone := make(chan struct{})
	go func() {
		defer close(errDone)
		s.stderr.follow(ch.stderr)
	}()
	go func() {
		err := ch.Wait()
		<-errDone // so that an error can quote all of it
		s.finish(s.explain(err))
	}()
	go func() {
		_ = s.drain(ch.stdout)
		<-s.done
		s.release()
	}()
	return s, nil
}

// startSubsystem starts a service; the session ends when its output does.
func (c *Conn) startSubsystem(ctx context.Context, name string) (*Session, error) {
	s, ch, err := c.begin(ctx, remote.Cmd{Argv: []string{name}}, subsystem(name))
	if err != nil {
		return nil, err
	}
	go s.stderr.follow(ch.stderr)
	go func() {
		s.finish(s.drain(ch.stdout))
		s.release()
	}()
	return s, nil
}

// feed moves what was written to the command. The pipe between lets a blocked
// write return when the context ends; the library's own cannot.
func (s *Session) feed(to io.WriteCloser) {
	_, err := s.stdin.WriteTo(to)
	if err != nil {
		s.stdin.fail(fmt.Errorf("write to %s on %s: it no longer reads: %w", s.cmd, s.conn.Address(), err))
		return
	}
	_ = to.Close() // end of input; a session that is over needs none
}

// drain moves the command's output to the reader.
func (s *Session) drain(from io.Reader) error {
	_, err := s.stdout.ReadFrom(from)
	if f := s.conn.link.failure(); err == nil && f != nil {
		err = s.conn.lost(f)
	}
	s.stdout.finish(err)
	return err
}

// release lets go of the contexts: nothing is left that they could end.
func (s *Session) release() {
	for _, stop := range s.stops {
		stop()
	}
}

func (c *Conn) lost(err error) error {
	if c.life.Err() != nil {
		return context.Cause(c.life)
	}
	return &LostError{Address: c.Address(), Err: err}
}

// explain turns the library's word on the end into ours.
func (s *Session) explain(err error) error {
	var exit *xssh.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		e := &remote.ExitError{Cmd: s.cmd.String(), Code: exit.ExitStatus(), Signal: exit.Signal(), Stderr: s.cmd.Mask(string(s.stderr.bytes()))}
		if e.Signal != "" {
			e.Code = -1
		}
		return e
	case s.conn.life.Err() != nil || s.conn.link.failure() != nil:
		return s.conn.lost(s.conn.link.failure())
	}
	return fmt.Errorf("run %s on %s: %w", s.cmd, s.conn.Address(), err)
}

// finish notes how the session ended, once.
func (s *Session) finish(err error) {
	s.once.Do(func() {
		s.err = err
		s.stdin.fail(fmt.Errorf("write to %s on %s: it has ended", s.cmd, s.conn.Address()))
		close(s.done)
	})
}

// abort ends the session from our side. It does not wait for the machine.
func (s *Session) abort(err error) {
	err = fmt.Errorf("run %s on %s: %w", s.cmd, s.conn.Address(), err)
	s.stdin.fail(err)
	s.stdout.fail(err)
	s.finish(err)
	go func() {
		_ = s.raw.Signal(xssh.SIGTERM) // OpenSSH before 7.9 ignores it; closing is what counts
		_ = s.raw.Close()
	}()
}

// Read reads the command's standard output. It ends with io.EOF only when the
// command closed it, and with a LostError when the connection broke.
func (s *Session) Read(p []byte) (int, error) { return s.stdout.Read(p) }

// Write writes to the command's standard input.
func (s *Session) Write(p []byte) (int, error) { return s.stdin.Write(p) }

// CloseWrite is the end of the command's standard input.
func (s *Session) CloseWrite() error {
	s.stdin.finish(nil)
	return nil
}

// Stderr is the end of what the command wrote to its standard error so far,
// with its secrets masked.
func (s *Session) Stderr() string { return s.cmd.Mask(string(s.stderr.bytes())) }

// Wait waits for the command's end: nil, a *remote.ExitError, or why it is not known.
func (s *Session) Wait() error {
	<-s.done
	return s.err
}

// Done is closed when the command has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the command if it still runs, and drops output nobody read.
func (s *Session) Close() error {
	s.release()
	s.abort(ErrClosed)
	return nil
}
