// SPDX-License-Identifier: Apache-2.0

package proxier

import "time"

// Pending is what an [Inbox] holds that no pass took yet.
type Pending struct {
	Services, Slices int
	Since            time.Time // of the oldest change; zero is nothing
}

// Pending counts what waits.
func (b *Inbox) Pending() Pending {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Pending{Services: len(b.services), Slices: len(b.slices), Since: b.since}
}

// drifted reports whether somebody else changed the kernel since the last
// pass.
func (b *Inbox) drifted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drift != ""
}
