// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"net/netip"
	"testing"

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
	eventually(t, "the kernel adds its counters up", patience, func() bool {
		all, err := ReadStats(t.Context())
		must(t, err)
		got = all[f]
		return got.Connections == asked
	})
	if got.PacketsIn < 3*asked || got.PacketsOut < 2*asked || got.BytesIn < 40*got.PacketsIn || got.BytesOut < 40*got.PacketsOut {
		t.Errorf("%d connections have the counters %+v", asked, got)
	}

	servers, there, err := ReadRealServers(t.Context(), f)
	must(t, err)
	conns := 0
	for _, s := range servers {
		conns += s.Connections
		if s.Weight != 1 {
			t.Errorf("real servers %+v, want weight 1", servers)
		}
	}
	if !there || len(servers) != 2 || conns == 0 || conns > asked {
		t.Errorf("real servers %+v, want 2 with up to %d connections", servers, asked)
	}
	f.Proto = proxier.SCTP
	if servers, there, err := ReadRealServers(t.Context(), f); there || len(servers) != 0 || err != nil {
		t.Errorf("a virtual server that is not there: %+v, %t, %v", servers, there, err)
	}
}
