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

// loose is a wire with bad contacts: system calls are interrupted, answers get
// lost, and lists are marked as torn.
type loose struct {
	wire
	dice   *rand.Rand
	faults *map[string]int
}

// slack makes the socket of v a loose one, and every one that replaces it.
func (v *ipvs) slack(seed uint64) map[string]int {
	faults := map[string]int{}
	dice := rand.New(rand.NewPCG(seed, 0))
	v.wire = loose{v.wire, dice, &faults}
	v.open = func() (wire, error) {
		faults["new socket"]++
		w, err := openSocket()
		return loose{w, dice, &faults}, err
	}
	return faults
}

func (l loose) happens(what string, onceIn int) bool {
	yes := l.dice.IntN(onceIn) == 0
	if yes {
		(*l.faults)[what]++
	}
	return yes
}

func (l loose) send(b []byte) error {
	switch {
	case l.happens("EINTR", 4):
		return unix.EINTR
	case l.happens("ENOBUFS before", 40):
		return unix.ENOBUFS
	}
	return l.wire.send(b)
}

func (l loose) receive(b []byte) (int, error) {
	if l.happens("EINTR", 4) {
		return 0, unix.EINTR
	}
	n, err := l.wire.receive(b)
	switch {
	case err == nil && l.happens("ENOBUFS after", 40):
		return 0, unix.ENOBUFS
	case err == nil && l.happens("DUMP_INTR", 20):
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
	faults := k.ipvs.slack(seed)
	for generation := range 10 {
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
