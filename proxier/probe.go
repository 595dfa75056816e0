// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Probe is a look at a small part of IPVS, at a cost that does not grow with
// the whole.
type Probe struct {
	Count   int                 // IPv4 virtual servers, of everybody; -1 where the kernel does not tell
	Servers map[Frontend]Server // those that were asked for and exist
}

// IPVS tells nobody when it changes, so it is asked: how many virtual servers
// there are, and whether some of ours, others each time, are as they were
// left. `ipvsadm -C` shows in the first answer, and so does a virtual server
// that somebody deleted; a real server that somebody changed shows once its
// turn comes, or in the periodic verification. It is about thirty system
// calls, at any number of Services.
const (
	probePeriod  = 500 * time.Millisecond
	probeSamples = 4
	longestDoubt = time.Minute
)

// prober remembers what probes are compared with.
type prober struct {
	count   int           // IPv4 virtual servers there should be; -1 is not known
	doubt   time.Duration // how long the count was last not believed
	believe time.Time     // the count, from then on
	counted bool          // the count is why a full pass is due
}

// start takes the count that belongs to a state that is read right after.
func (b *prober) start(ctx context.Context, k Kernel) error {
	now, err := k.Probe(ctx, nil)
	if err != nil {
		return err
	}
	b.count = now.Count
	return nil
}

// follow keeps the count up to date with what was applied.
func (b *prober) follow(p Plan) {
	for _, c := range p.Servers {
		switch {
		case b.count < 0 || !c.Frontend.Addr.Addr().Is4():
		case c.Verb == AddServer:
			b.count++
		case c.Verb == DelServer:
			b.count--
		}
	}
}

// settle ends a successful pass. Where the count was wrong and nothing of ours
// had changed, another program has virtual servers too. Each time that
// happens, the count is not believed for twice as long, lest every change of
// that program costs a comparison of everything.
func (b *prober) settle(changes int, now time.Time) {
	if b.counted && changes == 0 {
		b.doubt = min(max(2*b.doubt, time.Second), longestDoubt)
		b.believe = now.Add(b.doubt)
	}
	b.counted = false
}

// trust forgets the doubt.
func (b *prober) trust() { b.doubt, b.believe = 0, time.Time{} }

// probe returns what shows that the kernel is not as it was left, if anything.
func (p *Proxier) probe(ctx context.Context) (drift string) {
	if p.resync != "" {
		return "" // a full pass is due anyway
	}
	sample := p.sample()
	now, err := p.Kernel.Probe(ctx, sample)
	switch {
	case ctx.Err() != nil:
		return ""
	case err != nil:
		return fmt.Sprintf("IPVS could not be probed: %v", err)
	}
	if drift := p.differing(sample, now); drift != "" {
		return drift
	}
	if now.Count == p.prober.count || time.Now().Before(p.prober.believe) {
		return ""
	}
	p.prober.counted = true
	return fmt.Sprintf("there are %d IPv4 virtual servers, %d were left", now.Count, p.prober.count)
}

func (p *Proxier) differing(sample []Frontend, now Probe) string {
	for _, f := range sample {
		server, there := now.Servers[f]
		left := p.have.Servers[f]
		if !there || server.Options != left.Options || !slices.Equal(server.Dests, left.Dests) {
			return fmt.Sprintf("virtual server %s is not as it was left", f)
		}
	}
	return ""
}

// sample picks a few of our virtual servers. Go begins each walk over a map
// somewhere else, which is all the chance that is needed.
func (p *Proxier) sample() []Frontend {
	list := make([]Frontend, 0, probeSamples)
	for f := range p.Model.Want().Servers {
		if len(list) == cap(list) {
			break
		}
		if _, there := p.have.Servers[f]; there {
			list = append(list, f)
		}
	}
	return list
}
