// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"log/slog"
	"time"
)

// Handover clears what kube-proxy left, once Services are in force without
// it.
type Handover struct {
	Host interface {
		Find(context.Context) (Remains, error)
		Clear(ctx context.Context, r Remains, now bool) error
	}
	Log     *slog.Logger
	Every   time.Duration // between two looks while something is left; 0 is 5 seconds
	Cap     time.Duration // after which open connections are not waited for; 0 is 15 minutes
	Keep    bool          // an empty kube-ipvs0 stays
	Cleared func()        // something was removed; may be nil
}

// Run works until nothing is left or ctx ends. Begin it when the successor
// serves. Errors are logged and tried again.
func (h *Handover) Run(ctx context.Context) {
	if h.Every == 0 {
		h.Every = 5 * time.Second
	}
	if h.Cap == 0 {
		h.Cap = 15 * time.Minute
	}
	begin := time.Now()
	var last *Remains
	for {
		r, err := h.Host.Find(ctx)
		if err == nil {
			h.say(r, last)
			if r.Nothing(h.Keep) {
				return
			}
			err = h.Host.Clear(ctx, r, time.Since(begin) > h.Cap)
			if err == nil && h.Cleared != nil && (last == nil || r.String() != last.String()) {
				h.Cleared()
			}
			last = &r
		}
		if err != nil && ctx.Err() == nil {
			h.Log.Error("what kube-proxy left is not cleared yet; trying again", "in", h.Every, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(h.Every):
		}
	}
}

// say logs what changed since the last look.
func (h *Handover) say(r Remains, last *Remains) {
	switch {
	case last == nil && r.Nothing(h.Keep):
		// There was no kube-proxy here, as almost always.
	case last == nil:
		h.Log.Info("clearing what kube-proxy left", "mode", r.Mode(), "found", r.String())
	case r.Nothing(h.Keep):
		h.Log.Info("nothing of kube-proxy is left")
	case last.rules() == 0 && r.rules() > 0:
		h.Log.Warn("kube-proxy's rules are back: does it still run? Stop it, as two proxies on one node undo each other's work", "found", r.String())
	case r.String() != last.String():
		h.Log.Info("waiting for connections that kube-proxy began", "left", r.String())
	}
	if last != nil {
		return
	}
	for chain, why := range r.Needed {
		h.Log.Warn("a chain of kube-proxy stays", "chain", chain, "why", why)
	}
	for _, what := range r.Unseen {
		h.Log.Warn("something of kube-proxy cannot be cleared from here", "what", what)
	}
}
