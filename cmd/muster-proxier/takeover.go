// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/takeover"
)

// beside does what is not about Services themselves, once these are in force:
// it clears what another proxy left, and looks after the neighbours. What was
// cleared may have hidden something of ours, so all is compared again.
func (s *service) beside(ctx context.Context, p *parts) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.serving:
	}
	if s.neighbours != nil {
		// A firewall has to accept Services before kube-proxy's rules, which
		// may have done that, go away.
		s.neighbours.visit(ctx, p)
	}
	if s.handover != nil {
		if err := s.handover(ctx, func() { p.inbox.Drift("cleared what kube-proxy left") }); err != nil {
			return err
		}
	}
	if s.neighbours != nil {
		s.neighbours.run(ctx, p)
	}
	return nil
}

// fromKubeProxy is the handover from kube-proxy. It has a connection to the
// kernel of its own: the proxier's is busy.
func fromKubeProxy(how kernel.Options, foreign []netip.Prefix, o options, log *slog.Logger) func(context.Context, func()) error {
	return func(ctx context.Context, cleared func()) error {
		k, err := kernel.Open(how)
		if err != nil {
			return err
		}
		h := takeover.Handover{Host: remainsOn(k, foreign, o), Log: log, Keep: o.calico, Cleared: cleared}
		h.Run(ctx)
		return k.Close()
	}
}

func remainsOn(k proxier.Kernel, foreign []netip.Prefix, o options) takeover.Host {
	return takeover.Host{
		IPVS: k,
		Foreign: func(f proxier.Frontend) bool {
			return slices.ContainsFunc(foreign, func(p netip.Prefix) bool { return p.Contains(f.Addr.Addr()) })
		},
		KeepDevice: o.calico,
		Forwards:   o.integrate,
	}
}

// clearKubeProxy is --clear-kube-proxy: one look and one removal, without
// waiting for connections. It is for what the running program must leave,
// such as tables of iptables-legacy from inside its sandbox.
func clearKubeProxy(ctx context.Context, o options, log *slog.Logger) error {
	k, err := kernel.Open(kernel.Options{StateDir: o.stateDir})
	if err != nil {
		return err
	}
	host := remainsOn(k, nil, o)
	r, err := host.Find(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("%w (does muster-proxier run? Its rules have to be in force first)", err), k.Close())
	}
	log.Info("clearing what kube-proxy left", "mode", r.Mode(), "found", r.String())
	for _, what := range r.Unseen {
		log.Warn("something of kube-proxy cannot be cleared from here", "what", what)
	}
	return errors.Join(host.Clear(ctx, r, false), k.Close())
}
