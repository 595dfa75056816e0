// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Kernel is the data plane as the [Proxier] needs it. One caller at a time.
type Kernel interface {
	// Prepare puts in place what no Service changes: settings, rules, empty
	// sets. It leaves right things as they are, and packets do not notice it.
	Prepare(context.Context) error

	// Read returns what is there: every virtual server, foreign ones too,
	// and our own elements and routes. It needs a prepared kernel.
	Read(context.Context) (State, error)

	// Apply makes the changes in their order. A change that is refused keeps
	// back what of After is about its frontend ([Refused.Spare]), and nothing
	// else. If that is all that went wrong, the error is a [Refused]. After
	// another error only Read knows what was made.
	Apply(context.Context, Plan) error

	// Connections counts the connections of the real servers of some virtual
	// servers; those without any may be left out. For a few it is fast.
	Connections(context.Context, []Frontend) (map[RealServer]int, error)

	// Probe looks at a few virtual servers and counts all of them, fast.
	Probe(context.Context, []Frontend) (Probe, error)
}

// Report tells what one pass did.
type Report struct {
	Full      bool   // the whole kernel was read and compared
	Why       string // of a full pass
	Changes   int    // made, or tried when Err is set
	Services  int    // told since the last pass
	Slices    int    // told since the last pass
	Frontends int    // served now
	Draining  int    // real servers
	Duration  time.Duration
	Waited    time.Duration // of the oldest change, until the pass was done
	Triggered []time.Time   // when the changes happened in the cluster, where known
	Err       error
}

// Timing are the periods of a [Proxier]. The zero value of each has a
// default.
type Timing struct {
	Verify    time.Duration // full comparison, jittered by a fifth; 15 minutes
	DrainTick time.Duration // how often draining real servers are looked at; 5 seconds
	Probe     time.Duration // a look whether IPVS is as it was left, jittered too; 500 ms
	RetryMin  time.Duration // first pause after an error, doubled each time; 100 ms
	RetryMax  time.Duration // 30 seconds
	Heartbeat time.Duration // how often Alive is called; 0 is never
	MinSync   time.Duration // from one pass to the next that API events ask for; 0 is no wait
}

// Proxier keeps one kernel as its [Inbox] says.
type Proxier struct {
	Kernel Kernel
	Model  *Model
	Inbox  *Inbox
	Drain  Drain // zero is 15 minutes and 10,000
	Timing Timing
	Report func(Report) // after each pass that did something; may be nil
	Alive  func()       // the loop turns; may be nil

	// Health gets all health checks whenever one of them changed; may be nil.
	Health func(map[uint16]HealthCheck)

	// Exclude are addresses whose virtual servers are left alone, even those
	// that look like ours, unless a Service asks for them.
	Exclude []netip.Prefix

	have   State
	drains drains
	prober prober
	spread uint32
	resync string // why the next pass must be a full one; "" is not
	retry  time.Duration
	again  time.Time // when a full pass is due after an error; zero is never
	passed time.Time // begin of the last pass

	once  sync.Once
	looks chan func()
}

// Look runs a function between two passes, when the Model and the kernel's
// State hold still. It changes neither and keeps nothing of them.
func (p *Proxier) Look(ctx context.Context, look func(m *Model, have State)) error {
	done := make(chan struct{})
	f := func() {
		defer close(done)
		look(p.Model, p.have)
	}
	select {
	case p.looking() <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done
	return nil
}

// looking is where requests to look wait. They may come before Run.
func (p *Proxier) looking() chan func() {
	p.once.Do(func() { p.looks = make(chan func()) })
	return p.looks
}

// Run works until ctx ends. Errors of the kernel go into reports and are
// tried again; nothing else can go wrong.
func (p *Proxier) Run(ctx context.Context) {
	p.start()
	timers := p.timers()
	defer timers.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.Inbox.wake:
			if wait := p.early(time.Now()); wait > 0 {
				timers.retry.Reset(wait)
				continue
			}
		case <-timers.retry.C:
			if !p.again.IsZero() && !time.Now().Before(p.again) && p.resync == "" {
				p.resync = "changes were refused"
			}
		case <-timers.verify.C:
			p.resync = "periodic verification"
			p.prober.trust()
			timers.verify.Reset(jittered(p.Timing.Verify))
		case <-timers.probe.C:
			drift := p.probe(ctx)
			timers.probe.Reset(jittered(p.Timing.Probe))
			if drift == "" {
				continue
			}
			p.resync = drift
		case <-timers.drain.C:
			timers.drain.Reset(p.Timing.DrainTick)
			if !p.reap(ctx) {
				timers.retry.Reset(p.tryAgain(time.Now()))
			}
			continue
		case <-timers.alive:
			p.Alive()
			continue
		case look := <-p.looking():
			look()
			continue
		}
		if now := time.Now(); !p.pass(ctx) || p.again.After(now) {
			timers.retry.Reset(p.tryAgain(now))
		}
	}
}

// early is how long an event has to wait for its pass. What somebody else did
// to the kernel does not wait.
func (p *Proxier) early(now time.Time) time.Duration {
	if p.Timing.MinSync == 0 || p.passed.IsZero() || p.Inbox.drifted() {
		return 0
	}
	return p.Timing.MinSync - now.Sub(p.passed)
}

func (p *Proxier) start() {
	setDefault(&p.Timing.Verify, 15*time.Minute)
	setDefault(&p.Timing.DrainTick, 5*time.Second)
	setDefault(&p.Timing.Probe, probePeriod)
	setDefault(&p.Timing.RetryMin, 100*time.Millisecond)
	setDefault(&p.Timing.RetryMax, 30*time.Second)
	setDefault(&p.Drain.Cap, 15*time.Minute)
	if p.Drain.Most == 0 {
		p.Drain.Most = 10_000
	}
	h := fnv.New32a()
	h.Write([]byte(p.Model.config.Node))
	p.spread = h.Sum32()
	p.have, p.drains, p.resync = NewState(), drains{}, "start"
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// pass brings the kernel up to date once and reports whether it is.
func (p *Proxier) pass(ctx context.Context) bool {
	begin := time.Now()
	b := p.Inbox.moveTo(p.Model)
	if b.drift != "" {
		p.resync = b.drift
	}
	if !b.synced || !p.Model.Ready() {
		return true // more is to come, and it will wake the loop
	}
	r := Report{Full: p.resync != "", Why: p.resync, Services: b.services, Slices: b.slices, Triggered: b.triggered}
	p.passed = begin
	touched := p.Model.Update()
	if !r.Full && b.since.IsZero() {
		return true
	}
	if r.Full {
		r.Changes, r.Err = p.full(ctx)
	} else {
		r.Changes, r.Err = p.apply(ctx, touched)
	}
	if checks, changed := p.Model.HealthChecks(); changed && p.Health != nil {
		p.Health(checks)
	}
	p.settle(ctx, r)
	p.report(r, b.since, begin)
	return r.Err == nil
}

// settle says how it goes on after a pass. Where single changes were refused,
// what the kernel holds is still known, and other Services go on as if nothing
// had been: one that cannot be served must not cost a comparison of everything
// with each event.
func (p *Proxier) settle(ctx context.Context, r Report) {
	_, known := onlyRefused(r.Err)
	switch {
	case ctx.Err() != nil && r.Err != nil:
	case r.Err == nil && (r.Full || p.again.IsZero()):
		p.resync, p.retry, p.again = "", 0, time.Time{}
		p.prober.settle(r.Changes, time.Now())
	case known:
		p.resync = ""
	case r.Err != nil:
		p.resync = "error in the pass before"
	}
}

// tryAgain sets when the full pass after an error is due, and returns how long
// that is.
func (p *Proxier) tryAgain(now time.Time) time.Duration {
	if !p.again.After(now) {
		p.again = now.Add(p.backoff())
	}
	return p.again.Sub(now)
}

// full reads the kernel and compares all of it. What somebody removed comes
// back, what is right stays untouched.
func (p *Proxier) full(ctx context.Context) (int, error) {
	if err := p.Kernel.Prepare(ctx); err != nil {
		return 0, err
	}
	if err := p.prober.start(ctx, p.Kernel); err != nil {
		return 0, err
	}
	have, err := p.Kernel.Read(ctx)
	if err != nil {
		return 0, err
	}
	p.have = have
	maps.DeleteFunc(have.Servers, func(f Frontend, _ Server) bool {
		_, wanted := p.Model.Want().Servers[f]
		return !wanted && slices.ContainsFunc(p.Exclude, func(e netip.Prefix) bool { return e.Contains(f.Addr.Addr()) })
	})
	return p.apply(ctx, Everything(have, p.Model.Want()))
}

func (p *Proxier) apply(ctx context.Context, touched Touched) (int, error) {
	plan := Diff(p.have, p.Model.Want(), touched, p.spread)
	err := p.Kernel.Apply(ctx, plan)
	refused, known := onlyRefused(err)
	if err != nil && !known {
		return plan.Len(), err
	}
	done := plan.without(refused)
	if err := p.have.Apply(done); err != nil {
		return plan.Len(), fmt.Errorf("remember what was applied: %w", err)
	}
	p.prober.follow(done)
	p.drains.follow(p.have, p.Model.Want(), touched.Frontends, time.Now())
	return plan.Len(), err
}

// reap removes real servers that are done draining. It reports false when
// that needs another try.
func (p *Proxier) reap(ctx context.Context) bool {
	if len(p.drains) == 0 || p.resync != "" {
		return true
	}
	begin := time.Now()
	conns, err := p.Kernel.Connections(ctx, p.drains.frontends())
	plan := Plan{}
	if err == nil {
		plan = p.drains.reap(conns, p.Drain, begin)
		err = p.Kernel.Apply(ctx, plan)
	}
	if err == nil {
		err = p.have.Apply(plan)
	}
	if err != nil {
		p.resync = "error while draining"
		p.report(Report{Changes: plan.Len(), Err: err}, begin, begin)
		return false
	}
	for _, c := range plan.Servers {
		delete(p.drains, RealServer{c.Frontend, c.Dest.Addr})
	}
	if plan.Len() > 0 {
		p.report(Report{Changes: plan.Len()}, begin, begin)
	}
	return true
}

func (p *Proxier) report(r Report, since, begin time.Time) {
	if p.Report == nil {
		return
	}
	if since.IsZero() || since.After(begin) {
		since = begin
	}
	now := time.Now()
	r.Duration, r.Waited = now.Sub(begin), now.Sub(since)
	r.Frontends, r.Draining = len(p.Model.Want().Servers), len(p.drains)
	p.Report(r)
}

// CleanUp removes from the kernel what Services put there: our virtual
// servers, elements and routes, and nothing else.
func CleanUp(ctx context.Context, k Kernel) error {
	have, err := k.Read(ctx)
	if err != nil {
		return err
	}
	err = k.Apply(ctx, Diff(have, NewState(), Everything(have, NewState()), 0))
	if err != nil {
		return fmt.Errorf("remove the virtual servers: %w", err)
	}
	return nil
}

type timers struct {
	verify, probe, drain, retry *time.Timer
	beat                        *time.Ticker
	alive                       <-chan time.Time
}

func (p *Proxier) timers() *timers {
	t := &timers{
		verify: time.NewTimer(jittered(p.Timing.Verify)),
		probe:  time.NewTimer(jittered(p.Timing.Probe)),
		drain:  time.NewTimer(p.Timing.DrainTick),
		retry:  time.NewTimer(0),
	}
	if p.Timing.Heartbeat > 0 && p.Alive != nil {
		t.beat = time.NewTicker(p.Timing.Heartbeat)
		t.alive = t.beat.C
	}
	return t
}

func (t *timers) stop() {
	t.verify.Stop()
	t.probe.Stop()
	t.drain.Stop()
	t.retry.Stop()
	if t.beat != nil {
		t.beat.Stop()
	}
}

// jittered spreads a period by a fifth either way, so that the nodes of a
// cluster do not work in step.
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

func (p *Proxier) backoff() time.Duration {
	p.retry = min(max(2*p.retry, p.Timing.RetryMin), p.Timing.RetryMax)
	return p.retry
}
