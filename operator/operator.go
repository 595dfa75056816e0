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
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
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
	"github.com/muster-project/muster/remote"
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

// host is what there is of one host so far.
type host struct {
	link  attempt[*ssh.Conn]
	sum   attempt[string] // of its muster-node; empty if it has none
	agent attempt[*Conn]
}

// host returns the entry of a host, made if it is missing.
func (o *Operator) host(name string) *host {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hosts == nil {
		o.hosts = make(map[string]*host)
		o.gate = make(chan struct{}, o.atOnce())
	}
	if o.hosts[name] == nil {
		o.hosts[name] = &host{}
	}
	return o.hosts[name]
}

func (o *Operator) atOnce() int {
	if o.AtOnce > 0 {
		return o.AtOnce
	}
	return 64
}

// enter waits until no more than AtOnce hosts are being worked on.
func (o *Operator) enter(ctx context.Context) (leave func(), err error) {
	select {
	case o.gate <- struct{}{}:
		return func() { <-o.gate }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Link logs in to a host, or returns the connection there is. It asks nothing
// of the host and leaves nothing there.
func (o *Operator) Link(ctx context.Context, name string) (*ssh.Conn, error) {
	return o.host(name).link.get(ctx, func() (*ssh.Conn, error) {
		target, ok := o.Inventory.Host(name)
		if !ok {
			return nil, fmt.Errorf("the inventory has no host %s", name)
		}
		leave, err := o.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		return ssh.Dial(ctx, target, o.SSH)
	})
}

// nodeSum asks a host, as root, for the SHA-256 of its muster-node.
func (o *Operator) nodeSum(ctx context.Context, name string) (string, error) {
	return o.host(name).sum.get(ctx, func() (string, error) {
		out, err := o.Run(ctx, name, "sha256sum", nodePath)
		var sudo *ssh.SudoError
		var exit *remote.ExitError
		if !errors.As(err, &sudo) && errors.As(err, &exit) {
			return "", nil // sha256sum ran and found nothing
		}
		sum, _, _ := strings.Cut(string(out), " ")
		return sum, err
	})
}

// Host connects to the muster-node of a host, or returns the connection there
// is.
func (o *Operator) Host(ctx context.Context, name string) (*Conn, error) {
	return o.host(name).agent.get(ctx, func() (*Conn, error) {
		link, err := o.Link(ctx, name)
		if err != nil {
			return nil, err
		}
		sum, err := o.nodeSum(ctx, name)
		if err != nil {
			return nil, err
		}
		leave, err := o.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		return o.open(ctx, name, link, sum)
	})
}

// Run runs a program on a host as root and returns its output, also when it
// ends with a failure. muster-node is not needed for it.
func (o *Operator) Run(ctx context.Context, name string, argv ...string) ([]byte, error) {
	link, err := o.Link(ctx, name)
	if err != nil {
		return nil, err
	}
	result, err := link.Run(ctx, remote.Cmd{Argv: argv})
	return result.Stdout, err
}

// Reach logs in to all hosts side by side, becomes root there and only looks:
// with one that cannot be entered, none has been changed. The error joins those
// of the hosts, each under its name.
func (o *Operator) Reach(ctx context.Context, names []string) error {
	return each(names, func(name string) error {
		_, err := o.nodeSum(ctx, name)
		return err
	})
}

// Connect does the same and starts muster-node on all hosts.
func (o *Operator) Connect(ctx context.Context, names []string) error {
	if err := o.Reach(ctx, names); err != nil {
		return err
	}
	return each(names, func(name string) error {
		_, err := o.Host(ctx, name)
		return err
	})
}

// each does all hosts side by side and joins their errors, in their order.
func each(names []string, do func(name string) error) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			if err := do(name); err != nil {
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
	var mu sync.Mutex
	err := each(names, func(name string) error {
		f, err := o.factsOf(ctx, name)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all[name] = f
		return nil
	})
	return all, err
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

// Close ends every connection. A dial under way ends with the context that it
// was given.
func (o *Operator) Close() error {
	o.mu.Lock()
	names := slices.Sorted(maps.Keys(o.hosts))
	o.mu.Unlock()
	return each(names, func(name string) error {
		var errs []error
		if c, ok := o.host(name).agent.made(); ok {
			errs = append(errs, c.session.Close())
		}
		if link, ok := o.host(name).link.made(); ok {
			errs = append(errs, link.Close())
		}
		return errors.Join(errs...)
	})
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
		case step.Identity:
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
