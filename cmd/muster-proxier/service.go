// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
)

// service is the running program with everything it talks to.
type service struct {
	config config
	client kubernetes.Interface
	kernel proxier.Kernel
	watch  func(context.Context, kernel.Events) error
	log    *slog.Logger
	notify notifier
}

// run works until ctx ends or a part of it cannot go on. The service manager
// starts it again then, and it adopts what the kernel holds.
func (s *service) run(ctx context.Context) error {
	if err := s.kernel.Prepare(ctx); err != nil {
		return err
	}
	health, metrics, inbox := newHealth(time.Now), newMetrics(), proxier.NewInbox()
	// Whoever starts after this program may count on Services.
	ready := sync.OnceFunc(s.notify.ready)
	p := &proxier.Proxier{
		Kernel: s.kernel,
		Model:  proxier.NewModel(s.config.Config),
		Inbox:  inbox,
		Report: func(r proxier.Report) {
			health.report(r)
			metrics.report(r)
			s.logReport(r)
			if r.Full && r.Err == nil {
				ready()
			}
		},
		Timing: proxier.Timing{Heartbeat: s.notify.heartbeat()},
		Alive: func() {
			health.beat()
			s.notify.alive()
		},
	}
	f := &follower{client: s.client, inbox: inbox, node: s.config.Node, nodeAddrs: s.config.nodeAddrs, onNode: health.node}
	if len(s.config.nodeAddrs) > 0 {
		inbox.Node(proxier.Node{Addrs: s.config.nodeAddrs}) // the Node object may come later
	}

	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return s.serve(ctx, "health", s.config.healthz, health.handler(metrics)) })
	work.Go(func() error { return s.serve(ctx, "metrics", s.config.metrics, metrics.handler()) })
	work.Go(func() error { return f.run(ctx) })
	work.Go(func() error {
		return s.watch(ctx, kernel.Events{Drift: inbox.Drift, Addresses: inbox.LocalAddresses})
	})
	work.Go(func() error {
		p.Run(ctx)
		return nil
	})
	s.log.Info("started", "version", version(), "node", s.config.Node, "scheduler", s.config.Scheduler)
	return work.Wait()
}

// serve answers HTTP until ctx ends.
func (s *service) serve(ctx context.Context, what, addr string, h http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for %s requests: %w", what, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer %s requests: %w", what, err)
	}
	return nil
}

// logReport writes what a person wants to know: the rest is in the metrics.
func (s *service) logReport(r proxier.Report) {
	about := []any{"changes", r.Changes, "frontends", r.Frontends, "took", r.Duration}
	switch {
	case r.Err != nil:
		s.log.Error("the kernel refused a change; all of it is compared again", append(about, "error", r.Err)...)
	case r.Full:
		s.log.Info("compared the whole kernel", append(about, "why", r.Why)...)
	default:
		s.log.Debug("applied", about...)
	}
}
