// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/muster-project/muster/proxier"
)

// entry encodes one entry of the list of services with counters.
func entry(f proxier.Frontend, counters map[uint16]uint64) []byte {
	var b batch
	encodeService(&b, f, proxier.Options{Scheduler: "rr"}, true)
	stats := b.nest(svcStats64)
	for kind, n := range counters {
		b.header(kind, 8)
		b.buf = binary.NativeEndian.AppendUint64(b.buf, n)
	}
	b.unnest(stats)
	b.unnest(0) // the counters are part of the service
	return b.buf
}

func TestDecodeStats(t *testing.T) {
	f := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: proxier.TCP}
	all := map[uint16]uint64{statsConns: 1, statsInPackets: 2, statsOutPackets: 3, statsInBytes: 4 << 40, statsOutBytes: 5}
	got, s, ok, err := decodeStats(entry(f, all))
	if want := (Stats{Connections: 1, PacketsIn: 2, PacketsOut: 3, BytesIn: 4 << 40, BytesOut: 5}); err != nil || !ok || got != f || s != want {
		t.Errorf("%s %+v, %t, %v, want %+v", got, s, ok, err, want)
	}
	delete(all, statsOutBytes)
	if _, _, ok, err := decodeStats(entry(f, all)); err == nil || ok {
		t.Errorf("a missing counter: %t, %v", ok, err)
	}
}

func FuzzDecodeStats(f *testing.F) {
	frontend := proxier.Frontend{Addr: netip.MustParseAddrPort("[fd00::7]:53"), Proto: proxier.UDP}
	f.Add(entry(frontend, map[uint16]uint64{statsConns: 1}))
	f.Add([]byte{4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		if at, _, ok, err := decodeStats(body); ok && (err != nil || !at.Addr.IsValid()) {
			t.Errorf("accepted %s with %v", at, err)
		}
	})
}
