// SPDX-License-Identifier: Apache-2.0

// Package operator is the operator's side of muster: it reaches hosts over
// SSH, brings muster-node to them, and answers what their muster-node asks for
// while it works: blobs of the bundle, signatures, bootstrap tokens.
//
// A host gets only what the plan has for it: a signature only for a
// certificate that one of its own steps is about, a token only for its own
// name. A host that lies gains nothing over the others.
package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote/ssh"
)

// Operator holds one connection to each host it was asked about.
type Operator struct {
	Inventory inventory.Inventory
	Bundle    *bundle.Bundle
	SSH       ssh.Options
	// Locked says that hosts are to be changed: each connection then takes the
	// host's lock, which keeps other operators away.
	Locked bool
	// AtOnce is how many hosts are dialled at a time; 0 means 64.
	AtOnce int

	mu    sync.Mutex
	hosts map[string]*host
	gate  chan struct{}
	sent  atomic.Int64
}

// host is a connection, or the attempt to make one.
type host struct {
	ready chan struct{} // closed when the next two are set
	conn  *Conn
	err   error
}

// Host connects to a host, or returns the connection there is.
func (o *Operator) Host(ctx context.Context, name string) (*Conn, error) {
	o.mu.Lock()
	if o.hosts == nil {
		o.hosts = make(map[string]*host)
		o.gate = make(chan struct{}, o.atOnce())
	}
	h, ok := o.hosts[name]
	if !ok {
		h = &host{ready: make(chan struct{})}
		o.hosts[name] = h
	}
	o.mu.Unlock()
	if !ok {
		h.conn, h.err = o.connect(ctx, name)
		close(h.ready)
	}
	select {
	case <-h.ready:
		return h.conn, h.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (o *Operator) atOnce() int {
	if o.AtOnce > 0 {
		return o.AtOnce
	}
	return 64
}

func (o *Operator) connect(ctx context.Context, name string) (*Conn, error) {
	target, ok := o.Inventory.Host(name)
	if !ok {
		return nil, fmt.Errorf("the inventory has no host %s", name)
	}
	select {
	case o.gate <- struct{}{}:
		defer func() { <-o.gate }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return o.open(ctx, target)
}

// Connect reaches all hosts side by side. The error joins those of the hosts
// that could not be reached, each under its name.
func (o *Operator) Connect(ctx context.Context, names []string) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			if _, err := o.Host(ctx, name); err != nil {
				errs[i] = &HostError{Host: name, Err: err}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// HostError is what went wrong with one host.
type HostError struct {
	Host string
	Err  error
}

func (e *HostError) Error() string { return e.Host + ": " + e.Err.Error() }
func (e *HostError) Unwrap() error { return e.Err }

// Agent is Host, as the runner wants it.
func (o *Operator) Agent(ctx context.Context, name string) (plan.Agent, error) {
	return o.Host(ctx, name)
}

// Facts asks all hosts side by side. Hosts that could not be asked are in the
// error and not in the map.
func (o *Operator) Facts(ctx context.Context, names []string) (map[string]facts.Host, error) {
	all := make(map[string]facts.Host, len(names))
	errs := make([]error, len(names))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() {
			f, err := o.factsOf(ctx, name)
			if err != nil {
				errs[i] = &HostError{Host: name, Err: err}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[name] = f
		})
	}
	wait.Wait()
	return all, errors.Join(errs...)
}

func (o *Operator) factsOf(ctx context.Context, name string) (facts.Host, error) {
	c, err := o.Host(ctx, name)
	if err != nil {
		return facts.Host{}, err
	}
	asked := time.Now()
	f, err := protocol.Call[facts.Host](ctx, c.session, protocol.Request{Op: protocol.OpFacts})
	f.Offset = f.Time.Sub(asked.Add(time.Since(asked) / 2))
	return f, err
}

// authority is the connection to the host that keeps the CA keys.
func (o *Operator) authority(ctx context.Context) (*Conn, error) {
	return o.Host(ctx, phases.Cluster{Inventory: o.Inventory}.ControlPlane().Name)
}

// Sign has a certificate request signed by a CA of the cluster.
func (o *Operator) Sign(ctx context.Context, req pki.Request, csr []byte) ([]byte, error) {
	return o.ask(ctx, protocol.Request{Op: protocol.OpSign, Certificate: &req, Data: csr})
}

// Authority fetches the certificate of a CA of the cluster.
func (o *Operator) Authority(ctx context.Context, ca pki.CA) ([]byte, error) {
	return o.ask(ctx, protocol.Request{Op: protocol.OpAuthority, Name: string(ca)})
}

func (o *Operator) token(ctx context.Context, node string) ([]byte, error) {
	as := phases.Cluster{Inventory: o.Inventory}.AsAdmin()
	return o.ask(ctx, protocol.Request{Op: protocol.OpToken, Name: node, As: &as})
}

func (o *Operator) ask(ctx context.Context, r protocol.Request) ([]byte, error) {
	c, err := o.authority(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := protocol.Call[protocol.Data](ctx, c.session, r)
	return answer.Data, err
}

// Sent is how many bytes of the bundle have gone to hosts.
func (o *Operator) Sent() int64 { return o.sent.Load() }

// Close ends every connection.
func (o *Operator) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, h := range o.hosts {
		select {
		case <-h.ready:
			if h.conn != nil {
				errs = append(errs, h.conn.Close())
			}
		default: // its dial ends with the context it was given
		}
	}
	return errors.Join(errs...)
}

// Name says who the operator is, for the locks on hosts.
func Name() string {
	who, where := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if name, err := os.Hostname(); err == nil {
		where = name
	}
	return who + "@" + where
}

var _ plan.Agent = (*Conn)(nil)

// allowances are what a host may ask for, collected from its steps.
type allowances struct {
	mu           sync.Mutex
	certificates []pki.Request
	blobs        map[string]bool
	tokens       map[string]bool
}

func (a *allowances) add(steps step.List) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blobs == nil {
		a.blobs, a.tokens = make(map[string]bool), make(map[string]bool)
	}
	for _, s := range steps {
		switch s := s.(type) {
		case step.Certificate:
			a.certificates = append(a.certificates, s.Request)
		case step.Install:
			a.blobs[s.Blob.Compressed] = true
		case step.Image:
			a.blobs[s.Blob.Compressed] = true
		case step.Bootstrap:
			a.tokens[s.Node] = true
		}
	}
}
