// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package takeover_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/proxier/kerneltest"
)

// others is what must survive: chains of the kubelet and of somebody else, an
// ipset and a virtual server that are not kube-proxy's. %[1]s is iptables.
const others = `%[1]s -t mangle -N KUBE-IPTABLES-HINT
%[1]s -t mangle -N KUBE-KUBELET-CANARY
%[1]s -t filter -N KUBE-FIREWALL
%[1]s -t filter -I INPUT -j KUBE-FIREWALL
%[1]s -t filter -A KUBE-FIREWALL -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
%[1]s -t filter -N MINE
%[1]s -t filter -A INPUT -p tcp --dport 1 -m comment --comment "a rule -j KUBE-SERVICES of mine" -j MINE
ipset create MINE hash:ip`

// otherServer is made when kube-proxy has ended, for it removes every virtual
// server that is not its own.
const otherServer = `ipvsadm -A -t 192.0.2.1:4711 -s rr
ipvsadm -a -t 192.0.2.1:4711 -r 10.244.0.2:8080 -m`

const removeOthers = `%[1]s -t mangle -X KUBE-IPTABLES-HINT
%[1]s -t mangle -X KUBE-KUBELET-CANARY
%[1]s -t filter -F; %[1]s -t filter -X
ipset destroy MINE; ipvsadm -C`

// left lists what of kube-proxy a host still has, by its own tools.
func left(t *testing.T) string {
	t.Helper()
	return kerneltest.Shell(t, `{ nft list ruleset; for i in iptables ip6tables; do $i-legacy-save; done; } 2>/dev/null |
  grep -v KUBE-SERVICES.of.mine | grep -o 'KUBE-[A-Z0-9-]*\|table ip6* kube-proxy' | sort -u |
  grep -v 'KUBE-FIREWALL$\|KUBE-KUBELET-CANARY\|KUBE-IPTABLES-HINT' || true
ipset list -n | grep -v '^MINE$' || true
ip -o link show kube-ipvs0 2>/dev/null || true`)
}

// kubeProxy starts the real one and waits for a Service to work.
func kubeProxy(t *testing.T, mode, iptables, kubeconfig string) *program {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kube-proxy.yaml")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: node
clusterCIDR: 10.244.0.0/16,fd00:244::/64
clientConnection: {kubeconfig: %s, contentType: application/json, acceptContentTypes: application/json}
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 0.0.0.0:10256
nodePortAddresses: [0.0.0.0/0]
`, mode, kubeconfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// kube-proxy takes the iptables that it finds first.
	bin := t.TempDir()
	for _, six := range []string{"", "6"} {
		for _, end := range []string{"", "-save", "-restore"} {
			tool, err := exec.LookPath("ip" + six + "tables-" + iptables + end)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(tool, filepath.Join(bin, "ip"+six+"tables"+end)); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := start(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, "kube-proxy", "--config="+config)
	for _, to := range []string{"10.96.0.7:80", "[fd00:96::7]:80"} {
		eventually(t, "kube-proxy serves "+to, func() bool {
			select {
			case err := <-p.end:
				p.end <- err
				t.Fatalf("kube-proxy ended: %v\n%s", err, p.out.text())
			default:
			}
			c, _, err := dial("client", to)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return p
}

func proxierConfig(t *testing.T, kubeconfig string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "proxier.yaml")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
hostnameOverride: node
clusterCIDR: 10.244.0.0/16,fd00:244::/64
clientConnection: {kubeconfig: %s}
`, kubeconfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestTakeover(t *testing.T) {
	for _, c := range []struct{ mode, iptables string }{{"ipvs", "nft"}, {"iptables", "nft"}, {"nftables", "nft"}, {"ipvs", "legacy"}, {"iptables", "legacy"}} {
		t.Run(c.mode+" "+c.iptables, func(t *testing.T) { takeOver(t, c.mode, c.iptables) })
	}
}

func takeOver(t *testing.T, mode, iptables string) {
	network(t)
	tool := "iptables-" + iptables
	kerneltest.Shell(t, fmt.Sprintf(others, tool))
	t.Cleanup(func() { kerneltest.Shell(t, fmt.Sprintf(removeOthers, tool)) })
	kubeconfig := apiServer(t)
	old := kubeProxy(t, mode, iptables, kubeconfig)
	if left(t) == "" {
		t.Fatal("kube-proxy left no trace while it runs: this test looks at the wrong things")
	}
	t.Logf("kube-proxy's:\n%s", left(t))

	var streams []*stream
	for _, s := range [][2]string{
		{"client", "10.96.0.7:80"}, {"client", "[fd00:96::7]:80"}, {"", "10.96.0.7:80"}, {"", "[fd00:96::7]:80"},
		{"outside", "192.0.2.1:30080"}, {"outside", "10.96.0.7:80"}, {"client", "203.0.113.77:80"}, {"outside", "203.0.113.77:80"}, {"a", "10.96.0.7:80"},
	} {
		streams = append(streams, open(t, s[0], s[1]))
	}
	// NodePorts on every address are kube-proxy's configuration and not ours.
	second := open(t, "outside", "198.51.100.1:30080")
	streams = append(streams, second)
	var stops []func()
	for _, s := range [][2]string{{"client", "10.96.0.7:80"}, {"", "10.96.0.7:80"}, {"outside", "192.0.2.1:30080"}, {"client", "[fd00:96::7]:80"}, {"client", "203.0.113.77:80"}, {"outside", "203.0.113.77:80"}} {
		stops = append(stops, hammer(t, s[0], s[1]))
	}

	state := filepath.Join(t.TempDir(), "state")
	successor := start(t, nil, "muster-proxier", "--config="+proxierConfig(t, kubeconfig), "--state-dir="+state)
	t.Cleanup(func() {
		successor.stop(t)
		if out, err := exec.Command("./muster-proxier", "--cleanup", "--state-dir="+state).CombinedOutput(); err != nil {
			t.Errorf("cleanup: %v\n%s", err, out)
		}
	})
	successor.says(t, "another service proxy runs on this node")
	if strings.Contains(kerneltest.Shell(t, "nft list tables"), "inet muster") {
		t.Error("the successor did not wait for kube-proxy's end")
	}
	old.stop(t)
	kerneltest.Shell(t, otherServer)
	successor.says(t, "clearing what kube-proxy left")
	for _, s := range streams {
		s.lives(t)
	}
	second.close()
	successor.says(t, "nothing of kube-proxy is left")
	for _, s := range streams[:len(streams)-1] {
		s.lives(t)
	}
	for _, stop := range stops {
		stop()
	}
	if l := left(t); l != "" {
		t.Errorf("left:\n%s", l)
	}
	for what, command := range map[string]string{
		"the foreign virtual server": "ipvsadm -Ln | grep -q 192.0.2.1:4711",
		"the foreign ipset":          "ipset list -n MINE",
		"the kubelet's chain":        tool + " -S KUBE-FIREWALL | grep -q DROP",
		"the kubelet's jump":         tool + " -S INPUT | grep -q KUBE-FIREWALL",
		"the foreign rule":           tool + " -S INPUT | grep -q MINE",
		"the kubelet's hint":         tool + " -t mangle -S KUBE-IPTABLES-HINT",
	} {
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			t.Errorf("%s is gone: %s: %v\n%s", what, command, err, out)
		}
	}
	t.Logf("it said:\n%s", successor.out.text())
}
