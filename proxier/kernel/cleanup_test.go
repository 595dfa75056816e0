// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
)

// snapshot is everything on this host that the proxier could have touched, as
// its own tools show it.
func snapshot(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, argv := range [][]string{
		{"nft", "-s", "list", "ruleset"},
		{"ip", "-4", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"ip", "rule"}, {"ip", "-6", "rule"}, {"ip", "-o", "link"}, {"ip", "-o", "addr"},
		{"ipvsadm", "-Ln", "--persistent-conn"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
		b.WriteString(strings.Join(argv, " ") + "\n" + string(out))
	}
	for _, s := range append(newSysctls("").needed(), forwarding6()...) {
		value, err := newSysctls("").read(s.name)
		if err != nil && !s.optional {
			t.Fatal(err)
		}
		b.WriteString(s.name + " = " + value + "\n")
	}
	return b.String()
}

// disturb sets everything that Prepare sets to something else, and puts
// things of others beside ours.
func disturb(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{"net/ipv4/ip_forward": "0", "net/ipv4/vs/conntrack": "0", "net/ipv4/vs/run_estimation": "0", "net/ipv6/conf/all/forwarding": "0"} {
		must(t, newSysctls("").write(name, value))
	}
	for _, line := range []string{
		"nft add table inet somebody",
		"nft add chain inet somebody input { type filter hook input priority 0 ; }",
		"nft add rule inet somebody input tcp dport 22 accept",
		"ip route add local 203.0.113.0/24 dev lo table local",
		"ipvsadm -A -t 198.51.100.7:80 -s wlc -p 300",
		"ipvsadm -a -t 198.51.100.7:80 -r 198.51.100.8:80 -m -w 3",
		"ipvsadm -A -f 77 -s rr",
	} {
		fields := strings.Fields(line)
		if out, err := exec.Command(fields[0], fields[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		t.Cleanup(func() { exec.Command("ipvsadm", "-C").Run() })
	}
	t.Cleanup(func() {
		exec.Command("nft", "delete", "table", "inet", "somebody").Run()
		exec.Command("ip", "route", "del", "local", "203.0.113.0/24", "dev", "lo", "table", "local").Run()
	})
}

func TestCleanUpLeavesTheHostAsItWas(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(*testing.T) // what somebody does to our table beforehand
	}{
		{"in order", func(*testing.T) {}},
		{"after the table was deleted", func(t *testing.T) { must(t, deleteElsewhere()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := fresh(t)
			disturb(t)
			before := snapshot(t)
			dir := filepath.Join(t.TempDir(), "state")
			k.sysctls = newSysctls(dir)
			must(t, k.Prepare(t.Context()))
			model := proxier.NewModel(proxier.Config{Node: "node"})
			model.SetNode(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}})
			model.SetServiceCIDR("kubernetes", []netip.Prefix{clusterIP})
			model.SetService(proxier.Service{
				Name: proxier.Name{Namespace: "default", Name: "web"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
				Ports: []proxier.Port{{Name: "t", Proto: proxier.TCP, Port: 80}},
			})
			model.Update()
			have, err := k.Read(t.Context())
			must(t, err)
			want := model.Want()
			must(t, k.Apply(t.Context(), proxier.Diff(have, want, proxier.Everything(have, want), 0)))
			if snapshot(t) == before {
				t.Fatal("the host did not change")
			}
			c.lose(t)
			for range 2 {
				must(t, CleanUp(t.Context(), dir))
				if after := snapshot(t); after != before {
					t.Fatalf("before\n%s\nafter\n%s", before, after)
				}
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("the state directory is still there")
			}
		})
	}
}

// The rules as nft prints them: what a person sees, and what another program
// that saves and loads the ruleset has to understand.
func TestRulesAsNFTPrintsThem(t *testing.T) {
	k := fresh(t)
	must(t, k.Prepare(t.Context()))
	out, err := exec.Command("nft", "list", "table", "inet", TableName).Output()
	must(t, err)
	golden.Equal(t, "table.nft", out)
	load := exec.Command("nft", "-c", "-f", "-")
	load.Stdin = strings.NewReader("delete table inet " + TableName + "\n" + string(out))
	if out, err := load.CombinedOutput(); err != nil {
		t.Errorf("nft does not take its own list back: %v\n%s", err, out)
	}
}
