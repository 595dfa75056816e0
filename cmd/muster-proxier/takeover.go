// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/takeover"
)

// takeOver has the handover done once Services are in force. What it removed
// may have hidden something of ours, so all is compared again.
func (s *service) takeOver(ctx context.Context, serving <-chan struct{}, inbox *proxier.Inbox) error {
	if s.handover == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-serving:
	}
	return s.handover(ctx, func() { inbox.Drift("cleared what kube-proxy left") })
}

// fromKubeProxy is the handover from kube-proxy. It has a connection to the
// kernel of its own: the proxier's is busy.
func fromKubeProxy(o kernel.Options, foreign []netip.Prefix, log *slog.Logger) func(context.Context, func()) error {
	return func(ctx context.Context, cleared func()) error {
		k, err := kernel.Open(o)
		if err != nil {
			return err
		}
		h := takeover.Handover{
			Host: takeover.Host{IPVS: k, Foreign: func(f proxier.Frontend) bool {
				return slices.ContainsFunc(foreign, func(p netip.Prefix) bool { return p.Contains(f.Addr.Addr()) })
			}},
			Log:     log,
			Cleared: cleared,
		}
		h.Run(ctx)
		return k.Close()
	}
}
