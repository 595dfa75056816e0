// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/templates"
)

// Conn is a host with its muster-node running.
type Conn struct {
	operator *Operator
	name     string
	ssh      *ssh.Conn
	session  *protocol.Session
	allowed  allowances
}

const nodePath = templates.BinDir + "/muster-node"

// open brings muster-node to a host if it is not there, and starts it.
func (o *Operator) open(ctx context.Context, name string, link *ssh.Conn, have string) (*Conn, error) {
	c := &Conn{operator: o, name: name, ssh: link}
	if err := c.upload(ctx, have); err != nil {
		return nil, fmt.Errorf("bring muster-node: %w", err)
	}
	if err := c.start(ctx); err != nil {
		return nil, fmt.Errorf("start muster-node: %w", err)
	}
	return c, nil
}

// upload brings muster-node unless the one that the host has is this very one.
func (c *Conn) upload(ctx context.Context, have string) error {
	artifact, err := c.operator.Bundle.Lookup("muster-node")
	if err != nil {
		return err
	}
	file, ok := artifact.File("muster-node")
	if !ok {
		return errors.New("the bundle's artifact muster-node has no such file")
	}
	if have == file.SHA256 {
		return nil
	}
	content, err := c.operator.Bundle.OpenFile(file)
	if err != nil {
		return err
	}
	defer content.Close()
	c.operator.sent.Add(file.Size)
	return c.ssh.Upload(ctx, nodePath, 0o755, content, file.Size, file.SHA256)
}

// start starts muster-node. It lives as long as the connection and not as long
// as ctx, which is that of whoever needs it first: another host's question.
func (c *Conn) start(ctx context.Context) error {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	defer stop()
	process, err := c.ssh.Start(life, remote.Cmd{Argv: []string{nodePath, "serve"}})
	if err != nil {
		return err
	}
	if c.session, err = protocol.Client(node{process}); err != nil {
		return errors.Join(err, process.Close())
	}
	go c.session.Serve(life, c)
	if err := c.greet(ctx, process); err != nil {
		return errors.Join(err, c.session.Close())
	}
	return nil
}

// node is a muster-node as one end of a session.
type node struct{ *ssh.Session }

// patience is how long a muster-node has to end by itself.
const patience = time.Second

// Close ends muster-node's input, at which it gives up its lock and ends, and
// waits for that a moment.
func (n node) Close() error {
	ended := n.CloseWrite()
	select {
	case <-n.Done():
	case <-time.After(patience):
	}
	return errors.Join(ended, n.Session.Close())
}

// ended returns what muster-node said when it ended by itself, which tells more
// than that the session broke off.
func ended(ctx context.Context, process *ssh.Session, err error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-process.Done():
	case <-ctx.Done():
		return err
	}
	var exit *remote.ExitError
	if errors.As(process.Wait(), &exit) {
		return exit
	}
	return err
}

// greet makes sure that both sides speak the same, and locks the host if it is
// to be changed.
func (c *Conn) greet(ctx context.Context, process *ssh.Session) error {
	hello, err := protocol.Call[protocol.Hello](ctx, c.session, protocol.Request{Op: protocol.OpHello})
	if err != nil {
		return ended(ctx, process, err)
	}
	if hello.Protocol != protocol.Version {
		return fmt.Errorf("it speaks version %d of the protocol, muster %d: use the bundle that came with this muster",
			hello.Protocol, protocol.Version)
	}
	if !c.operator.Locked {
		return nil
	}
	_, err = protocol.Call[protocol.Ack](ctx, c.session, protocol.Request{Op: protocol.OpLock, Operator: Name()})
	return err
}

// Apply has steps done or looked at on the host; see plan.Agent.
func (c *Conn) Apply(ctx context.Context, steps step.List, check bool, each func(protocol.Event)) error {
	c.allowed.add(steps)
	return protocol.Stream(ctx, c.session, protocol.Request{Op: protocol.OpApply, Steps: steps, Check: check}, each)
}

// Reset returns the host to what it was before muster.
func (c *Conn) Reset(ctx context.Context, each func(protocol.Event)) error {
	return protocol.Stream(ctx, c.session, protocol.Request{Op: protocol.OpReset}, each)
}

// Handle answers what the host's muster-node asks for.
func (c *Conn) Handle(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	switch r.Op {
	case protocol.OpBlob:
		return c.blob(r.Name, w)
	case protocol.OpSign:
		if r.Certificate == nil || !c.allowed.certificate(*r.Certificate) {
			return fmt.Errorf("%s asks for a certificate that the plan does not have for it", c.name)
		}
		cert, err := c.operator.Sign(ctx, *r.Certificate, r.Data)
		return data(w, cert, err)
	case protocol.OpAuthority:
		cert, err := c.operator.Authority(ctx, pki.CA(r.Name))
		return data(w, cert, err)
	case protocol.OpToken:
		if !c.allowed.token(r.Name) {
			return fmt.Errorf("%s asks for a token for %s, which the plan does not have for it", c.name, r.Name)
		}
		token, err := c.operator.token(ctx, r.Name)
		return data(w, token, err)
	default:
		return fmt.Errorf("no such call %q", r.Op)
	}
}

func data(w *protocol.Writer, d []byte, err error) error {
	if err != nil {
		return err
	}
	return w.Value(protocol.Data{Data: d})
}

func (c *Conn) blob(sum string, w *protocol.Writer) error {
	if !c.allowed.blob(sum) {
		return fmt.Errorf("%s asks for blob %.12s, which the plan does not have for it", c.name, sum)
	}
	blob, err := c.operator.Bundle.OpenBlob(sum)
	if err != nil {
		return err
	}
	defer blob.Close()
	return w.Bytes(&counting{blob, &c.operator.sent})
}

// counting adds what is read to a sum.
type counting struct {
	io.Reader
	sum *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.sum.Add(int64(n))
	return n, err
}

func (a *allowances) certificate(r pki.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, allowed := range a.certificates {
		if reflect.DeepEqual(normal(allowed), normal(r)) {
			return true
		}
	}
	return false
}

// normal makes nil and empty lists alike: JSON does not tell them apart.
func normal(r pki.Request) pki.Request {
	if len(r.Organization) == 0 {
		r.Organization = nil
	}
	if len(r.DNSNames) == 0 {
		r.DNSNames = nil
	}
	if len(r.IPs) == 0 {
		r.IPs = nil
	}
	return r
}

func (a *allowances) blob(sum string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.blobs[sum]
}

func (a *allowances) token(node string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens[node]
}
