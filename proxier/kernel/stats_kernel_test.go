// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"net/netip"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier"
)

// TestCountersOfTheKernel reads them beside a proxier at work.
func TestCountersOfTheKernel(t *testing.T) {
	c := newCluster(t)
	c.service(nil, podA, podRemote)
	const asked = 6
	for range asked {
		if _, err := c.client.ask("tcp", byClusterIP); err != nil {
			t.Fatal(err)
		}
	}
	f := proxier.Frontend{Addr: netip.MustParseAddrPort(byClusterIP), Proto: proxier.TCP}
	var got Stats
	eventually(t, "the kernel adds its counters up", time.Minute, func() bool {
		all, err := ReadStats(t.Context())
		must(t, err)
		got = all[f]
		return got.Connections == asked
	})
	if got.PacketsIn < 3*asked || got.PacketsOut < 2*asked || got.BytesIn < 40*got.PacketsIn || got.BytesOut < 40*got.PacketsOut {
		t.Errorf("%d connections have the counters %+v", asked, got)
	}

	other := proxier.Frontend{Addr: f.Addr, Proto: proxier.SCTP}
	found, err := ReadRealServers(t.Context(), []proxier.Frontend{f, other})
	must(t, err)
	conns := 0
	for _, s := range found[f] {
		conns += s.Connections
		if s.Weight != 1 {
			t.Errorf("real servers %+v, want weight 1", found)
		}
	}
	if len(found[f]) != 2 || conns == 0 || conns > asked {
		t.Errorf("real servers %+v, want 2 with up to %d connections", found, asked)
	}
	if _, there := found[other]; there {
		t.Errorf("a virtual server that is not there: %+v", found)
	}
}
