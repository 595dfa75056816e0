// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package neighbours

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/muster-project/muster/proxier/kerneltest"
)

// Tests with the build tag `kernel` need root and nftables.
func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, nil)) }

func look(t *testing.T) string {
	t.Helper()
	findings, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

func contains(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("no %q in\n%s", w, got)
		}
	}
}

func TestFirewalls(t *testing.T) {
	if got := look(t); got != "" {
		t.Fatalf("found on a host without a firewall: %s", got)
	}
	kerneltest.Shell(t, `iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT; iptables-nft -P INPUT DROP; iptables-nft -P FORWARD DROP; iptables-nft -P OUTPUT DROP
ip6tables-nft -P FORWARD DROP
nft add table inet firewalld
nft 'add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }'
nft 'add chain inet firewalld filter_OUTPUT { type filter hook output priority 10; policy accept; }'
nft add rule inet firewalld filter_INPUT reject
nft add table inet muster
nft 'add chain inet muster input { type filter hook input priority 0; policy drop; }'`)
	t.Cleanup(func() { kerneltest.Shell(t, "nft flush ruleset") })
	before := kerneltest.Shell(t, "nft list ruleset")
	contains(t, look(t), "chain INPUT of nftables table ip filter: drops", "chain FORWARD of nftables table ip filter: drops",
		"chain FORWARD of nftables table ip6 filter: drops", "chain filter_INPUT of nftables table inet firewalld: drops")
	if n := strings.Count(look(t), "\n") + 1; n != 4 {
		t.Errorf("%d findings, want 4:\n%s", n, look(t))
	}

	i := Integration{Services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/112")}}
	changed, err := i.Ensure()
	if err != nil || len(changed) != 4 {
		t.Fatalf("changed %v, %v", changed, err)
	}
	// What a person sees with the tools of each.
	contains(t, kerneltest.Shell(t, "iptables-nft -S INPUT"),
		"-A INPUT -d 10.96.0.0/12 -m comment --comment muster-proxier -j ACCEPT\n",
		"-A INPUT -m mark --mark 0x1000/0x1000 -m comment --comment muster-proxier -j ACCEPT\n",
		"-A INPUT -m mark --mark 0x4000/0x4000 -m comment --comment muster-proxier -j ACCEPT\n",
		"-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment muster-proxier -j ACCEPT\n")
	if got := kerneltest.Shell(t, "iptables-nft -S FORWARD"); strings.Contains(got, "10.96") || strings.Contains(got, "0x1000") || strings.Count(got, "\n") != 3 {
		t.Errorf("rules in FORWARD:\n%s", got)
	}
	contains(t, kerneltest.Shell(t, "ip6tables-nft -S FORWARD"), "--ctstate RELATED,ESTABLISHED", "--mark 0x4000/0x4000")
	contains(t, kerneltest.Shell(t, "nft list chain inet firewalld filter_INPUT"), "ip daddr 10.96.0.0/12", "ip6 daddr fd00:96::/112", "ct state established,related",
		"meta mark & 0x00004000 != 0x00000000", `accept comment "muster-proxier"`)
	contains(t, look(t), "has put in rules")
	if strings.Contains(look(t), "Start with") {
		t.Errorf("still asks for the integration:\n%s", look(t))
	}

	if again, err := i.Ensure(); err != nil || len(again) != 0 {
		t.Errorf("a second time changed %v, %v", again, err)
	}
	kerneltest.Shell(t, "iptables-nft -P FORWARD ACCEPT")
	before = strings.Replace(before, "hook forward priority filter; policy drop;", "hook forward priority filter; policy accept;", 1)
	for range 2 {
		if err := Remove(); err != nil {
			t.Fatal(err)
		}
		if after := kerneltest.Shell(t, "nft list ruleset"); after != before {
			t.Fatalf("before\n%s\nafter\n%s", before, after)
		}
	}
}

func TestLegacyFirewall(t *testing.T) {
	kerneltest.Shell(t, `iptables-legacy -P FORWARD DROP; iptables-legacy -N MINE; iptables-legacy -A FORWARD -j MINE; ip6tables-legacy -P INPUT DROP`)
	t.Cleanup(func() {
		kerneltest.Shell(t, `iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F; iptables-legacy -X; ip6tables-legacy -P INPUT ACCEPT`)
	})
	got := look(t)
	contains(t, got, "chain FORWARD of iptables-legacy's table filter", "`iptables-legacy -I FORWARD -m conntrack", "chain INPUT of ip6tables-legacy's table filter")
	if n := strings.Count(got, "\n") + 1; n != 2 {
		t.Errorf("%d findings, want 2:\n%s", n, got)
	}
}

func TestBridges(t *testing.T) {
	kerneltest.Shell(t, `ip link add br0 type bridge; ip link add p0 type dummy
echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables`)
	t.Cleanup(func() {
		kerneltest.Shell(t, "ip link del p0; ip link del br0; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
	})
	if got := look(t); got != "" {
		t.Errorf("found on a bridge without ports: %s", got)
	}
	kerneltest.Shell(t, "ip link set p0 master br0")
	if got := look(t); got != "bridge br0: Services fail between pods on one bridge: `sysctl -w net.bridge.bridge-nf-call-iptables=1`" {
		t.Errorf("found: %s", got)
	}
	kerneltest.Shell(t, "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
	if got := look(t); got != "" {
		t.Errorf("found with everything in order: %s", got)
	}
}

func TestDeviceForCalico(t *testing.T) {
	for range 2 {
		if err := EnsureDevice(); err != nil {
			t.Fatal(err)
		}
	}
	if out := kerneltest.Shell(t, "ip -o addr show dev kube-ipvs0"); strings.TrimSpace(out) != "" {
		t.Errorf("it has addresses: %s", out)
	}
	kerneltest.Shell(t, "ip addr add 10.96.0.7/32 dev kube-ipvs0")
	if err := RemoveDevice(); err != nil {
		t.Fatal(err)
	}
	kerneltest.Shell(t, "ip link show kube-ipvs0; ip addr flush dev kube-ipvs0")
	for range 2 {
		if err := RemoveDevice(); err != nil {
			t.Fatal(err)
		}
	}
	if exec.Command("ip", "link", "show", "kube-ipvs0").Run() == nil {
		t.Error("the empty device is still there")
	}
}
