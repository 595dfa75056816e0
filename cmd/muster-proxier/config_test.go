// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func hostname() (string, error) { return "Host-1", nil }

func TestParseConfig(t *testing.T) {
	c, err := parseConfig([]byte(header+`
mode: ipvs
clientConnection: {kubeconfig: /etc/kubeconfig, qps: 5, contentType: ""}
hostnameOverride: W-1
clusterCIDR: 10.244.0.0/16,fd00:244::/64
nodePortAddresses: [192.0.2.0/24]
bindAddress: 192.0.2.1
ipvs: {scheduler: mh, strictARP: true, excludeCIDRs: [], syncPeriod: 0s}
conntrack: {maxPerCore: 32768}
iptables: {masqueradeAll: false}
`), hostname)
	if err != nil {
		t.Fatal(err)
	}
	if c.kubeconfig != "/etc/kubeconfig" || c.Node != "w-1" || c.Scheduler != "mh" || c.healthz != "0.0.0.0:10256" || c.metrics != "127.0.0.1:10249" {
		t.Errorf("got %+v", c)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/64")}; !slices.Equal(c.PodCIDRs, want) {
		t.Errorf("pods %v, want %v", c.PodCIDRs, want)
	}
	if len(c.NodePorts) != 1 || len(c.nodeAddrs) != 1 {
		t.Errorf("node ports on %v, node address %v", c.NodePorts, c.nodeAddrs)
	}
	if want := []string{"clientConnection.qps", "conntrack.maxPerCore", "ipvs.strictARP"}; !slices.Equal(c.ignored, want) {
		t.Errorf("ignored %v, want %v", c.ignored, want)
	}
}

func TestParseConfigDefaults(t *testing.T) {
	for _, text := range []string{header, header + "nodePortAddresses: [primary]\nbindAddress: 0.0.0.0\nmode: ''\n"} {
		c, err := parseConfig([]byte(text), hostname)
		if err != nil {
			t.Fatal(err)
		}
		if c.Node != "host-1" || c.Scheduler != "rr" || c.NodePorts != nil || c.nodeAddrs != nil || c.ignored != nil {
			t.Errorf("%q gives %+v", text, c)
		}
	}
}

func TestParseConfigFaults(t *testing.T) {
	_, err := parseConfig([]byte(`
apiVersion: v1
mode: nftables
ipvs: {scheduler: fair}
clusterCIDR: ten
nodePortAddresses: [192.0.2.1]
healthzBindAddress: here
metricsBindAddress: 127.0.0.1
bindAddress: there
`), func() (string, error) { return "", errors.New("none") })
	want := []string{"apiVersion, kind:", "mode:", "ipvs.scheduler:", "clusterCIDR[0]:", "nodePortAddresses[0]:", "healthzBindAddress:",
		"metricsBindAddress:", "bindAddress:", "hostnameOverride:"}
	if err == nil {
		t.Fatal("no fault")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for i, prefix := range want {
		if !strings.HasPrefix(lines[i], prefix) {
			t.Errorf("fault %d is %q, want %s", i, lines[i], prefix)
		}
	}
	if _, err := parseConfig([]byte(header+"scheduler: rr\n"), hostname); err == nil || !strings.Contains(err.Error(), "scheduler") {
		t.Errorf("unknown key: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(header + "ipvs: {scheduler: rr}")
	f.Add("[]")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseConfig([]byte(text), hostname); err == nil && (c.Node == "" || c.Scheduler == "") {
			t.Errorf("accepted without a name or scheduler: %+v", c)
		}
	})
}
