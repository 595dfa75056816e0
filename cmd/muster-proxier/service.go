// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/walk"
)

// service is the running program with everything it talks to.
type service struct {
	config config
	api    *api
	kernel proxier.Kernel
	host   hostKernel
	log    *slog.Logger
	notify notifier
	reload func(context.Context) error // returns when the program has to start anew; nil is never

	// handover clears what another service proxy left, and calls cleared each
	// time that it removed something; nil does nothing.
	handover   func(ctx context.Context, cleared func()) error
	neighbours *neighbourhood // nil looks after nobody
}

// hostKernel is the kernel beside what the proxier's loop does in it.
type hostKernel struct {
	watch   func(context.Context, kernel.Events) error
	set     func(kernel.Settings) error
	stats   func(context.Context) (map[proxier.Frontend]kernel.Stats, error)
	servers realServers

	addresses func() ([]netip.Addr, error)
}

// realKernel is the one of this host.
func realKernel(stateDir string) hostKernel {
	return hostKernel{
		watch:   kernel.Watch,
		set:     func(s kernel.Settings) error { return s.Apply(stateDir) },
		stats:   kernel.ReadStats,
		servers: kernel.ReadRealServers,

		addresses: kernel.Addresses,
	}
}

// parts are what works side by side.
type parts struct {
	health   *health
	metrics  *metrics
	inbox    *proxier.Inbox
	proxier  *proxier.Proxier
	checks   *healthcheck.Servers
	reporter *reporter
	surveyor *surveyor
	serving  chan struct{} // closed when Services are in force
}

// run works until ctx ends or a part of it cannot go on. The service manager
// starts it again then, and it adopts what the kernel holds.
func (s *service) run(ctx context.Context) error {
	ports, err := s.claim(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return errors.Join(err, ports.health.Close(), ports.metrics.Close())
	}
	work, ctx := errgroup.WithContext(ctx)
	p := s.assemble()
	f := &follower{api: s.api, inbox: p.inbox, node: s.config.Node, nodeAddrs: s.config.nodeAddrs, onNode: p.health.node}
	if len(s.config.nodeAddrs) > 0 {
		p.inbox.Node(proxier.Node{Addrs: s.config.nodeAddrs}) // the Node object may come later
	}
	ticks := time.NewTicker(surveyTick)
	defer ticks.Stop()
	p.surveyor.ticks = ticks.C

	without := func(f func(context.Context)) func() error { return func() error { f(ctx); return nil } }
	work.Go(func() error { return s.serve(ctx, "health", ports.health, p.health.handler(p.metrics)) })
	work.Go(func() error { return s.serve(ctx, "metrics", ports.metrics, s.pages(p)) })
	work.Go(without(f.run))
	work.Go(without(func(ctx context.Context) { p.reporter.run(ctx, s.api.events) }))
	work.Go(func() error {
		return s.host.watch(ctx, kernel.Events{Drift: p.inbox.Drift, Addresses: p.inbox.LocalAddresses})
	})
	work.Go(without(p.proxier.Run))
	work.Go(without(p.checks.Run))
	work.Go(without(p.surveyor.run))
	work.Go(func() error { return s.beside(ctx, p) })
	if s.reload != nil {
		work.Go(func() error { return s.reload(ctx) })
	}
	s.log.Info("started", "version", version(), "node", s.config.Node, "scheduler", s.config.Scheduler)
	return work.Wait()
}

// prepare makes the kernel ready. A limit that cannot be set, as in a
// container, is no reason to leave a node without Services.
func (s *service) prepare(ctx context.Context) error {
	if err := s.host.set(s.config.settings); err != nil {
		s.log.Warn("not every limit and timeout of the configuration is in force (conntrack.maxPerCore: 0 and 0s leave them alone)", "error", err)
	}
	return s.kernel.Prepare(ctx)
}

// assemble connects the parts.
func (s *service) assemble() *parts {
	p := &parts{
		health: newHealth(time.Now, 2*s.config.syncPeriod), metrics: newMetrics(), inbox: proxier.NewInbox(),
		reporter: newReporter(s.config.Node, s.log), serving: make(chan struct{}),
	}
	p.checks = &healthcheck.Servers{Healthy: p.health.works, Fault: func(f healthcheck.Fault) {
		s.log.Warn("health checks of a load balancer get no answer; it is tried again", "port", f.Port, "service", f.Check.Service.String(), "error", f.Err)
		p.reporter.deafPort(f)
	}}
	p.proxier = s.loop(p)
	p.surveyor = &surveyor{look: p.proxier.Look, reporter: p.reporter, log: s.log}
	p.metrics.follow(p.inbox.Pending, p.surveyor.survey)
	p.metrics.registry.MustRegister(newCounters(s.host.stats, p.proxier.Look, s.log))
	if n := s.neighbours; n != nil {
		p.metrics.neighbours(func() float64 { return float64(n.found.Load()) })
	}
	return p
}

// loop is the proxier with all that it tells.
func (s *service) loop(p *parts) *proxier.Proxier {
	model := proxier.NewModel(s.config.Config)
	ports := &healthPorts{servers: p.checks, configured: s.config.NodePorts}
	// Whoever starts after this program may count on Services.
	ready := sync.OnceFunc(func() {
		s.notify.ready()
		close(p.serving)
	})
	return &proxier.Proxier{
		Kernel:  s.kernel,
		Model:   model,
		Inbox:   p.inbox,
		Exclude: s.config.exclude,
		Health:  ports.checked,
		Report: func(r proxier.Report) {
			p.health.report(r)
			p.metrics.report(r)
			p.surveyor.changed()
			ports.on(model.NodePortAddrs())
			s.logReport(r)
			if r.Full || r.Err != nil { // other passes are about other Services
				p.reporter.refusals(refusals(r.Err, model.Owner))
			}
			if r.Full && inForce(r) {
				ready()
			}
		},
		Timing: proxier.Timing{Verify: s.config.verify, MinSync: s.config.minSync, Heartbeat: s.notify.heartbeat()},
		Alive: func() {
			p.health.beat()
			s.notify.alive()
		},
	}
}

// pages are those of the metrics port.
func (s *service) pages(p *parts) http.Handler {
	return statusPages{
		metrics: p.metrics.handler(),
		explain: explainer{look: p.proxier.Look, servers: s.host.servers, host: s.walkHost},
		config:  s.config.whole,
		profile: s.config.profile,
	}.handler()
}

// walkHost is this host as the way of a connection depends on it.
func (s *service) walkHost() (walk.Host, error) {
	addrs, err := s.host.addresses()
	return walk.Host{Addrs: addrs, DetectLocal: s.config.DetectLocal, MasqueradeAll: s.config.rules.MasqueradeAll}, err
}

// serve answers HTTP until ctx ends.
func (s *service) serve(ctx context.Context, what string, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
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
