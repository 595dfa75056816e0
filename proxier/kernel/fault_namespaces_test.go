// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/muster-project/muster/proxier"
)

// Virtual servers of another network namespace must not hide ours: see
// realServers.
func TestOtherNamespacesHaveIPVSToo(t *testing.T) {
	k := fresh(t)
	must(t, k.Prepare(t.Context()))
	other := newHost(t, "other")
	other.in(func() {
		v, err := dialIPVS()
		must(t, err)
		defer v.close()
		must(t, v.apply(virtualServers(500, 1)))
	})
	changes := virtualServers(500, 5)
	must(t, k.Apply(t.Context(), proxier.Plan{Servers: changes}))
	want := proxier.NewState()
	for _, c := range changes {
		must(t, want.ApplyServer(c))
	}
	all, err := readProc()
	must(t, err)
	t.Logf("/proc leaves %d of %d out", len(want.Servers)-len(all), len(want.Servers))
	got, err := k.Read(t.Context())
	must(t, err)
	clear(got.Elements)
	if text := differences(got.String(), want.String()); text != "" {
		t.Errorf("what was read:\n%s", text)
	}
}

// virtualServers adds n of them, each with some real servers.
func virtualServers(n, each int) []proxier.ServerChange {
	var list []proxier.ServerChange
	for i := range n {
		f := proxier.Frontend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80), Proto: proxier.TCP}
		list = append(list, proxier.ServerChange{Verb: proxier.AddServer, Frontend: f, Options: proxier.Options{Scheduler: "rr"}})
		for j := range each {
			d := proxier.Dest{Addr: netip.MustParseAddrPort(fmt.Sprintf("10.244.%d.%d:8080", j, i%250)), Weight: 1}
			list = append(list, proxier.ServerChange{Verb: proxier.AddDest, Frontend: f, Dest: d})
		}
	}
	return list
}
