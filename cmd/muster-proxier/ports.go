// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// How often a taken port is tried again, and how often the log says so.
const (
	portRetry  = 500 * time.Millisecond
	portRemind = time.Minute
)

// ports are the listeners of this program. kube-proxy has the same, so who
// has them is the proxy of this node: nothing is changed in the kernel before.
type ports struct{ health, metrics net.Listener }

func (s *service) claim(ctx context.Context) (p ports, err error) {
	c := claimer{log: s.log, hardFail: s.config.hardFail}
	if p.health, err = c.claim(ctx, "health", s.config.healthz); err != nil {
		return p, err
	}
	if p.metrics, err = c.claim(ctx, "metrics", s.config.metrics); err != nil {
		return p, errors.Join(err, p.health.Close())
	}
	return p, nil
}

// claimer listens, and while somebody else has the port it waits.
type claimer struct {
	log      *slog.Logger
	hardFail bool // a taken port is an error (bindAddressHardFail)
}

func (c claimer) claim(ctx context.Context, what, addr string) (net.Listener, error) {
	var said time.Time
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if c.hardFail || !errors.Is(err, unix.EADDRINUSE) {
			if err != nil {
				return nil, fmt.Errorf("listen for %s requests: %w", what, err)
			}
			return listener, nil
		}
		if time.Since(said) > portRemind {
			said = time.Now()
			c.log.Warn("waiting: another service proxy runs on this node. Stop kube-proxy (`kubectl -n kube-system delete daemonset kube-proxy`); "+
				"what it set up goes on working until this program has taken over", "taken", addr, "for", what)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(portRetry):
		}
	}
}
