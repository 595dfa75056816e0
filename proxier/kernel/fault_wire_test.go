// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// contact says how a wire misbehaves.
type contact struct {
	dice   *rand.Rand
	faults map[string]int
	left   int // faults that end a pass, until the contact holds; a pass may need hundreds of calls
}

// loose is a wire with bad contacts: system calls are interrupted, answers get
// lost, and lists are marked as torn.
type loose struct {
	wire
	*contact
}

// slack makes the socket of v a loose one, and every one that replaces it.
func (v *ipvs) slack(seed uint64) *contact {
	c := &contact{dice: rand.New(rand.NewPCG(seed, 0)), faults: map[string]int{}}
	v.wire = loose{v.wire, c}
	v.open = func() (wire, error) {
		c.faults["new socket"]++
		w, err := openSocket()
		return loose{w, c}, err
	}
	return c
}

// interrupts are answered by asking again: there may be any number of them.
func (c *contact) interrupts() bool { return c.happens("EINTR", 4) }

// breaks are answered by another pass.
func (c *contact) breaks(what string, onceIn int) bool {
	if c.left == 0 || !c.happens(what, onceIn) {
		return false
	}
	c.left--
	return true
}

func (c *contact) happens(what string, onceIn int) bool {
	yes := c.dice.IntN(onceIn) == 0
	if yes {
		c.faults[what]++
	}
	return yes
}

func (l loose) send(b []byte) error {
	switch {
	case l.interrupts():
		return unix.EINTR
	case l.breaks("ENOBUFS before", 40):
		return unix.ENOBUFS
	}
	return l.wire.send(b)
}

func (l loose) receive(b []byte) (int, error) {
	if l.interrupts() {
		return 0, unix.EINTR
	}
	n, err := l.wire.receive(b)
	switch {
	case err == nil && l.breaks("ENOBUFS after", 40):
		return 0, unix.ENOBUFS
	case err == nil && l.breaks("DUMP_INTR", 20):
		flags := binary.NativeEndian.Uint16(b[6:])
		binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_DUMP_INTR)
	}
	return n, err
}

// TestLooseContact converges through a socket that fails now and then.
func TestLooseContact(t *testing.T) {
	k := fresh(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	contact := k.ipvs.slack(seed)
	faults := contact.faults
	for generation := range 10 {
		contact.left = 5
		ctx, cancel := context.WithTimeout(t.Context(), crowded)
		p := newProxier(k, services(generation))
		p.Timing = proxier.Timing{RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, DrainTick: 10 * time.Millisecond}
		failed := 0
		p.Report = func(r proxier.Report) {
			switch {
			case r.Err != nil:
				failed++
			case r.Draining == 0:
				cancel()
			}
		}
		p.Run(ctx)
		cancel()
		v, err := dialIPVS()
		must(t, err)
		got, err := (&Kernel{ipvs: v}).Read(t.Context())
		must(t, err)
		must(t, v.close())
		if text := differences(got.String(), wanted(generation).String()); text != "" {
			t.Fatalf("generation %d, after %d failed passes:\n%s", generation, failed, text)
		}
	}
	if faults["EINTR"] == 0 || faults["ENOBUFS before"]+faults["ENOBUFS after"]+faults["DUMP_INTR"] == 0 {
		t.Errorf("too little went wrong: %v", faults)
	}
	t.Logf("faults: %v", faults)
}
