// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/muster-project/muster/inventory"
)

// Dial connects to a host through its bastions and logs in. Errors are the
// types of this package, and name the hop that failed.
func Dial(ctx context.Context, host inventory.Host, o Options) (*Conn, error) {
	o = o.withDefaults()
	hops, err := route(host, o)
	if err != nil {
		return nil, err
	}
	c := &Conn{target: hops[len(hops)-1], keepAlive: o.KeepAlive}
	c.life, c.end = context.WithCancelCause(context.Background())
	for i, h := range hops {
		through := ""
		if i > 0 {
			through = hops[i-1].address()
		}
		if err := c.extend(ctx, h, through, o); err != nil {
			c.closeChain()
			return nil, err
		}
	}
	go c.watch()
	go c.keepAwake()
	return c, nil
}

// extend adds a machine to the end of the chain.
func (c *Conn) extend(ctx context.Context, h hop, through string, o Options) error {
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	fail := func(reason Reason, err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("reach %s: %w", h.address(), context.Cause(ctx))
		}
		if limited.Err() != nil {
			reason, err = Timeout, fmt.Errorf("after %s: %w", o.Timeout, limited.Err())
		}
		return &UnreachableError{Address: h.address(), Bastion: through, Hop: h.bastion, Reason: reason, Err: err}
	}
	check, err := newVerifier(h, o.Logf)
	if err != nil {
		return err
	}
	raw, err := c.dialNext(limited, h)
	if err != nil {
		return fail(reasonOf(err), err)
	}
	l := newLink(raw)
	entry, agentConn := prepare(limited, h, o)
	defer agentConn.Close()
	client, err := handshake(limited, l, h, check, entry)
	if err == nil {
		c.clients, c.link = append(c.clients, client), l
		return nil
	}
	l.Close()
	switch {
	case ctx.Err() == nil && check.err != nil:
		return check.err
	case limited.Err() != nil:
		return fail(Timeout, err)
	case entry.refused() && !errors.Is(err, io.EOF):
		return entry.error(h, err)
	case errors.Is(err, io.EOF) || l.failure() != nil:
		return fail(Closed, err)
	}
	return fail(reasonOf(err), err)
}

// dialNext opens a byte stream to the machine, from the end of the chain.
func (c *Conn) dialNext(ctx context.Context, h hop) (net.Conn, error) {
	if len(c.clients) == 0 {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", h.address())
	}
	return c.clients[len(c.clients)-1].DialContext(ctx, "tcp", h.address())
}

// handshake logs in. It has no context of its own: closing the stream ends it.
func handshake(ctx context.Context, l *link, h hop, check *verifier, entry *login) (*xssh.Client, error) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, channels, requests, err := xssh.NewClientConn(l, h.address(), &xssh.ClientConfig{
		// AES-GCM runs in the CPU's own instructions and needs no separate MAC;
		// measured, it is the fastest of Go's ciphers.
		Config: xssh.Config{Ciphers: []string{
			xssh.CipherAES128GCM, xssh.CipherAES256GCM, xssh.CipherChaCha20Poly1305, xssh.CipherAES128CTR, xssh.CipherAES256CTR,
		}},
		User:              h.user,
		Auth:              entry.methods(),
		AuthCallback:      entry.choose,
		HostKeyCallback:   check.check,
		HostKeyAlgorithms: check.algorithms(),
		ClientVersion:     "SSH-2.0-muster",
	})
	if err != nil {
		return nil, err
	}
	if !stop() { // the context ended in this moment and closes the stream
		conn.Close()
		return nil, context.Cause(ctx)
	}
	return xssh.NewClient(conn, channels, requests), nil
}

// link is the byte stream below a connection. It remembers its first error,
// because the library ends sessions of a broken connection with a plain EOF,
// and when it last heard anything, as a sign of life.
type link struct {
	net.Conn
	heard atomic.Int64 // UnixNano
	once  sync.Once
	err   atomic.Pointer[error]
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	l.heard.Store(time.Now().UnixNano())
	return l
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	if err != nil {
		l.once.Do(func() { l.err.Store(&err) })
	}
	return n, err
}

func (l *link) failure() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *link) silence() time.Duration { return time.Since(time.Unix(0, l.heard.Load())) }
