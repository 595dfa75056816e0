// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-project/muster/proxier"
)

// surveyTick is how often changes are looked through for what a person should
// know. It takes time in proportion to all Services, so not at each change.
const surveyTick = 10 * time.Second

// surveyor keeps the last survey of the Model.
type surveyor struct {
	look     looker
	reporter *reporter
	log      *slog.Logger
	ticks    <-chan time.Time

	stale atomic.Bool
	mu    sync.Mutex
	last  proxier.Survey
}

// changed tells that a pass changed something.
func (s *surveyor) changed() { s.stale.Store(true) }

// survey is at most a tick old.
func (s *surveyor) survey() proxier.Survey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// run works until ctx ends.
func (s *surveyor) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ticks:
		}
		if !s.stale.Swap(false) {
			continue
		}
		var now proxier.Survey
		if err := s.look(ctx, func(m *proxier.Model, _ proxier.State) { now = m.Survey() }); err != nil {
			continue // ctx ended
		}
		s.mu.Lock()
		s.last = now
		s.mu.Unlock()
		s.tell(now)
	}
}

func (s *surveyor) tell(now proxier.Survey) {
	for _, c := range s.reporter.conflicts(now.Conflicts) {
		s.log.Warn("two Services want one frontend; the older one has it", "frontend", c.Frontend.String(), "has", c.Winner.Service.String(), "wants", c.Loser.Service.String())
	}
	for _, f := range s.reporter.faults(now.Faults) {
		s.log.Warn("a Service asks for something it cannot have", "service", f.Service.String(), "what", f.What)
	}
}
