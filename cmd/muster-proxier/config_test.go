// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
)

const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func testHost() host {
	return host{name: func() (string, error) { return "Host-1\n", nil }, cpus: 8}
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func parsed(t *testing.T, text string) config {
	t.Helper()
	c, err := parseConfig([]byte(text), testHost())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseConfig(t *testing.T) {
	c := parsed(t, header+`
mode: ipvs
clientConnection: {kubeconfig: /etc/kubeconfig, qps: 50, burst: 100, contentType: application/json, acceptContentTypes: a/b}
hostnameOverride: W-1
clusterCIDR: 10.244.0.0/16,fd00:244::/64
nodePortAddresses: [192.0.2.0/24]
bindAddress: 192.0.2.1
healthzBindAddress: 192.0.2.1
metricsBindAddress: "[::1]:1234"
bindAddressHardFail: true
enableProfiling: true
oomScoreAdj: -5
logging: {format: json, verbosity: 4}
ipvs:
  scheduler: mh
  strictARP: true
  excludeCIDRs: [198.51.100.0/24]
  syncPeriod: 40s
  minSyncPeriod: 2s
  tcpTimeout: 10s
  tcpFinTimeout: 11s
  udpTimeout: 12s
conntrack: {maxPerCore: 40000, min: 100000, tcpEstablishedTimeout: 1h, tcpCloseWaitTimeout: 2s, tcpBeLiberal: true, udpTimeout: 3s, udpStreamTimeout: 4s}
iptables: {masqueradeAll: true, masqueradeBit: 15}
`)
	if c.Node != "w-1" || c.Scheduler != "mh" || c.healthz != "192.0.2.1:10256" || c.metrics != "[::1]:1234" || !c.hardFail || !c.profile || !c.logJSON || !c.debug {
		t.Errorf("got %+v", c)
	}
	if want := (kubeClient{kubeconfig: "/etc/kubeconfig", contentType: "application/json", accept: "a/b", qps: 50, burst: 100}); c.client != want {
		t.Errorf("client %+v, want %+v", c.client, want)
	}
	if c.syncPeriod != 40*time.Second || c.verify != 40*time.Second || c.minSync != 2*time.Second || *c.oomScoreAdj != -5 {
		t.Errorf("periods %s %s %s, OOM %d", c.syncPeriod, c.verify, c.minSync, *c.oomScoreAdj)
	}
	if want := prefixes("10.244.0.0/16", "fd00:244::/64"); !slices.Equal(c.DetectLocal.CIDRs, want) || !slices.Equal(c.rules.DetectLocal.CIDRs, want) {
		t.Errorf("pods %v and %v, want %v", c.DetectLocal.CIDRs, c.rules.DetectLocal.CIDRs, want)
	}
	if !c.rules.MasqueradeAll || *c.rules.MasqueradeBit != 15 {
		t.Errorf("rules %+v", c.rules)
	}
	if !slices.Equal(c.exclude, prefixes("198.51.100.0/24")) || !slices.Equal(c.nodeAddrs, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("exclude %v, node %v", c.exclude, c.nodeAddrs)
	}
	if want := prefixes("192.0.2.0/24", "::/0"); !slices.Equal(c.NodePorts, want) {
		t.Errorf("NodePorts on %v, want %v: a family that is not named is not restricted", c.NodePorts, want)
	}
	if want := (kernel.Settings{
		ConntrackMax: 320000, ConntrackEstablished: time.Hour, ConntrackCloseWait: 2 * time.Second, ConntrackUDP: 3 * time.Second,
		ConntrackUDPStream: 4 * time.Second, ConntrackLiberal: true, IPVSTCP: 10 * time.Second, IPVSTCPFin: 11 * time.Second, IPVSUDP: 12 * time.Second, StrictARP: true,
	}); c.settings != want {
		t.Errorf("settings %+v\nwant %+v", c.settings, want)
	}
	if c.ignored != nil || c.notes != nil {
		t.Errorf("ignored %q, notes %q", c.ignored, c.notes)
	}
}

// kubeadm writes every field, most of them as nothing.
func TestParseConfigOfKubeadm(t *testing.T) {
	data, err := os.ReadFile("testdata/kubeadm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := parsed(t, string(data))
	if c.Node != "host-1" || c.Scheduler != "rr" || c.NodePorts != nil || c.nodeAddrs != nil || c.ignored != nil || c.oomScoreAdj != nil {
		t.Errorf("%+v", c)
	}
	if c.verify != 0 || c.minSync != 0 || c.syncPeriod != 30*time.Second || c.rules.MasqueradeAll || *c.rules.MasqueradeBit != 14 {
		t.Errorf("%+v", c)
	}
	if want := (kernel.Settings{ConntrackMax: 262144, ConntrackEstablished: 24 * time.Hour, ConntrackCloseWait: time.Hour}); c.settings != want {
		t.Errorf("settings %+v, want %+v", c.settings, want)
	}
	if len(c.notes) != 2 || !strings.HasPrefix(c.notes[0], `mode is ""`) || !strings.HasPrefix(c.notes[1], "nodePortAddresses is not set") {
		t.Errorf("notes %q, want the mode and the node ports", c.notes)
	}
	whole, err := json.MarshalIndent(c.whole, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "kubeadm.json", append(whole, '\n'))
}

func TestDefaultAddresses(t *testing.T) {
	for _, c := range []struct{ text, healthz, metrics string }{
		{"", "0.0.0.0:10256", "127.0.0.1:10249"},
		{"bindAddress: 192.0.2.1", "0.0.0.0:10256", "127.0.0.1:10249"},
		{"bindAddress: '::'", "[::]:10256", "[::1]:10249"},
		{"bindAddress: 'fd00::1'\nmetricsBindAddress: '::'", "[::]:10256", "[::]:10249"},
		{"healthzBindAddress: 192.0.2.1:99\nmetricsBindAddress: '[::1]:98'", "192.0.2.1:99", "[::1]:98"},
	} {
		if got := parsed(t, header+c.text); got.healthz != c.healthz || got.metrics != c.metrics {
			t.Errorf("%s: %s and %s, want %s and %s", c.text, got.healthz, got.metrics, c.healthz, c.metrics)
		}
	}
}

func TestDetectLocalModes(t *testing.T) {
	for _, c := range []struct {
		text string
		want proxier.DetectLocal
	}{
		{"clusterCIDR: 10.244.0.0/16", proxier.DetectLocal{CIDRs: prefixes("10.244.0.0/16")}},
		{"detectLocalMode: NodeCIDR\nclusterCIDR: 10.244.0.0/16", proxier.DetectLocal{NodeCIDRs: true}},
		{"detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}", proxier.DetectLocal{Interface: "cni0"}},
		{"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}", proxier.DetectLocal{InterfacePrefix: "veth"}},
	} {
		got := parsed(t, header+c.text)
		if !reflect.DeepEqual(got.DetectLocal, c.want) || !reflect.DeepEqual(got.rules.DetectLocal, c.want) {
			t.Errorf("%s: %+v and %+v, want %+v", c.text, got.DetectLocal, got.rules.DetectLocal, c.want)
		}
	}
}

func TestNodePortAddresses(t *testing.T) {
	for text, want := range map[string][]netip.Prefix{
		"[primary]": nil, "[]": nil, "[0.0.0.0/0]": prefixes("0.0.0.0/0", "::/0"), "['fd00::/64', 10.0.0.0/8]": prefixes("fd00::/64", "10.0.0.0/8"),
	} {
		if got := parsed(t, header+"nodePortAddresses: "+text).NodePorts; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestModes(t *testing.T) {
	const sections = "\niptables: {masqueradeAll: true, masqueradeBit: 15, syncPeriod: 10s}\nnftables: {masqueradeBit: 16, syncPeriod: 20s}\nipvs: {syncPeriod: 40s}\n"
	for _, c := range []struct {
		mode string
		all  bool
		bit  uint
		sync time.Duration
	}{
		{"", true, 15, 10 * time.Second}, {"iptables", true, 15, 10 * time.Second}, {"ipvs", true, 15, 40 * time.Second}, {"nftables", false, 16, 20 * time.Second},
	} {
		got := parsed(t, header+"nodePortAddresses: [primary]\nclusterCIDR: 10.0.0.0/8\nmode: '"+c.mode+"'"+sections)
		if got.rules.MasqueradeAll != c.all || *got.rules.MasqueradeBit != c.bit || got.syncPeriod != c.sync {
			t.Errorf("mode %q: masquerade %t bit %d, period %s", c.mode, got.rules.MasqueradeAll, *got.rules.MasqueradeBit, got.syncPeriod)
		}
		if noted := len(got.notes) == 1 && strings.Contains(got.notes[0], "always works with IPVS"); noted != (c.mode != "ipvs") {
			t.Errorf("mode %q: notes %q", c.mode, got.notes)
		}
		if (got.verify != 0) != (c.mode == "ipvs") {
			t.Errorf("mode %q: verified every %s", c.mode, got.verify)
		}
	}
}

func TestUDPTimeoutIsForBoth(t *testing.T) {
	s := parsed(t, header+"ipvs: {udpTimeout: 10s}\nconntrack: {udpTimeout: 5s}").settings
	if s.IPVSUDP != 10*time.Second || s.ConntrackUDP != 5*time.Second || s.ConntrackUDPStream != 10*time.Second {
		t.Errorf("%+v", s)
	}
}

func TestConntrackMax(t *testing.T) {
	for _, c := range []struct{ perCore, least, cpus, want int }{
		{32768, 131072, 1, 131072}, {32768, 131072, 8, 262144}, {32768, 131072, 64, 1048576}, {0, 131072, 8, 0}, {1, 0, 2, 2}, {1, 2000000, 2, 2000000},
	} {
		if got := conntrackMax(c.perCore, c.least, c.cpus); got != c.want {
			t.Errorf("%d a core, at least %d, %d cores: %d, want %d", c.perCore, c.least, c.cpus, got, c.want)
		}
	}
}

func TestParseConfigFaults(t *testing.T) {
	nameless := testHost()
	nameless.name = func() (string, error) { return "", errors.New("none") }
	data, err := os.ReadFile("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseConfig(data, nameless)
	golden.Equal(t, "faults.txt", fmt.Appendln(nil, err))
}

func TestNotAConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\n":                       "apiVersion, kind:",
		"mode: ipvs\n":                                      "apiVersion, kind:",
		strings.Replace(header, "v1alpha1", "v1beta1", 1):   "apiVersion, kind:",
		strings.Replace(header, "KubeProxy", "Kubelet", 1):  "apiVersion, kind:",
		header + "mode: [ipvs]\n":                           "mode",
		header + "mode: ipvs\nmode: ipvs\n":                 "mode",
		header + "ipvs: {Scheduler: rr}\n":                  `unknown field "ipvs.Scheduler"`,
		header + "nodePortAddresses: [primary, 10.0.0.0/8]": "nodePortAddresses: primary stands alone",
		":": "",
	} {
		if _, err := parseConfig([]byte(text), testHost()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestEveryFieldIsKnown fails when Kubernetes adds a field that nobody here
// thought about.
func TestEveryFieldIsKnown(t *testing.T) {
	used := map[string]bool{}
	for path := range structLeaves(reflect.TypeFor[kubeproxy.KubeProxyConfiguration](), "") {
		f, ok := lookUp(path)
		if !ok {
			t.Errorf("%s: neither used nor ignored with a reason", path)
		}
		used[f.path] = true
	}
	for _, f := range fields {
		if !used[f.path] {
			t.Errorf("%s: no such field", f.path)
		}
	}
}

// structLeaves are the paths of all fields below a type.
func structLeaves(of reflect.Type, path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			kind := field.Type
			switch {
			case name == "" && field.Anonymous:
				structLeaves(kind, path)(yield)
			case reflect.PointerTo(kind).Implements(reflect.TypeFor[json.Unmarshaler]()):
				yield(path + name)
			case kind.Kind() == reflect.Struct:
				structLeaves(kind, path+name+".")(yield)
			case kind.Kind() == reflect.Map:
				yield(path + name + ".X")
			case name != "" && name != "-":
				yield(path + name)
			}
		}
	}
}

func TestIgnoredFields(t *testing.T) {
	c := parsed(t, header+`
featureGates: {A: false, B: true}
winkernel: {networkName: x, sourceVip: ""}
configSyncPeriod: 10m
iptables: {localhostNodePorts: true}
logging: {vmodule: [{filePattern: x, verbosity: 1}], flushFrequency: 0}
portRange: ""
`)
	want := []string{"configSyncPeriod", "featureGates.A", "featureGates.B", "iptables.localhostNodePorts", "logging.vmodule", "winkernel.networkName"}
	var got []string
	for _, text := range c.ignored {
		path, reason, _ := strings.Cut(text, " (")
		if got = append(got, path); len(reason) < 10 {
			t.Errorf("%s is ignored for no reason", path)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("ignored %q, want %q", got, want)
	}
}

func FuzzParseConfig(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range seeds {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("[]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig([]byte(text), testHost())
		if err == nil && (c.Node == "" || c.Scheduler == "" || c.syncPeriod <= 0 || c.minSync > c.syncPeriod || c.healthz == "" || c.rules.MasqueradeBit == nil) {
			t.Errorf("accepted: %+v", c)
		}
	})
}

// TestFieldsAreDocumented: what has an effect is told to who moves.
func TestFieldsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/proxier-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name := strings.TrimSuffix(f.path, ".")
		if name = name[strings.LastIndexByte(name, '.')+1:]; f.ignored == "" && name != "apiVersion" && name != "kind" && !strings.Contains(string(doc), name) {
			t.Errorf("%s is not in the documentation", f.path)
		}
	}
}
