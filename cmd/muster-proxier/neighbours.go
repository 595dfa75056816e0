// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/neighbours"
)

// neighbourTick is how often others' firewalls are looked at. They change with
// people, and a reload of theirs takes our rules out.
const neighbourTick = time.Minute

// neighbourhood looks after what else on the host decides about packets of
// Services. Used by one goroutine, but for found.
type neighbourhood struct {
	log       *slog.Logger
	integrate bool // put accepting rules into firewalls
	calico    bool // have an empty kube-ipvs0
	every     time.Duration
	found     atomic.Int64 // at the last look

	// Of package neighbours.
	look   func() ([]neighbours.Finding, error)
	ensure func(neighbours.Integration) ([]string, error)
	device func() error

	told map[string]struct{}
}

func newNeighbourhood(o options, log *slog.Logger) *neighbourhood {
	return &neighbourhood{
		log: log, integrate: o.integrate, calico: o.calico, every: neighbourTick,
		look: neighbours.Look, ensure: neighbours.Integration.Ensure, device: neighbours.EnsureDevice,
	}
}

// run visits until ctx ends.
func (n *neighbourhood) run(ctx context.Context, p *parts) {
	ticks := time.NewTicker(n.every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			n.visit(ctx, p)
		}
	}
}

// visit does once what is asked for and tells what it finds. A fault here
// takes nothing away from Services: it is told and tried again.
func (n *neighbourhood) visit(ctx context.Context, p *parts) {
	if n.calico {
		n.fault("kube-ipvs0 for Calico", n.device())
	}
	if n.integrate {
		var services []netip.Prefix
		if err := p.proxier.Look(ctx, func(_ *proxier.Model, have proxier.State) { services = slices.Collect(maps.Keys(have.Routes)) }); err != nil {
			return // the program ends
		}
		changed, err := n.ensure(neighbours.Integration{Services: services})
		n.fault("accept Services in firewalls", err)
		for _, where := range changed {
			n.log.Info("a firewall accepts Services now", "where", where)
		}
	}
	findings, err := n.look()
	n.fault("look at firewalls and bridges", err)
	n.found.Store(int64(len(findings)))
	told := map[string]struct{}{}
	for _, f := range findings {
		text := f.String()
		told[text] = struct{}{}
		if _, before := n.told[text]; before {
			continue
		}
		n.log.Warn("Services may suffer from a neighbour", "where", f.Where, "what", f.What)
		p.reporter.warnNode("ServicesBlocked", "Look", text)
	}
	n.told = told
}

func (n *neighbourhood) fault(what string, err error) {
	if err != nil {
		n.log.Warn("a neighbour cannot be looked after; it is tried again", "to do", what, "error", err)
	}
}
