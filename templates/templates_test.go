// SPDX-License-Identifier: Apache-2.0

package templates_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/templates"
)

type renderer interface{ Render() ([]byte, error) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// outputs is every output of the package with an example input, by golden.
func outputs() map[string]renderer {
	return map[string]renderer{
		"etcd.service": templates.EtcdUnit{},
		"kube-apiserver.service": templates.APIServerUnit{
			AdvertiseAddress: addr("10.0.0.11"), EtcdServers: []string{"https://10.0.0.11:2379", "https://10.0.0.12:2379"},
			ServiceCIDRs: prefixes("10.96.0.0/16", "fd00:96::/112"), Domain: "cluster.local",
		},
		"authentication.yaml": templates.Authentication{},
		"kube-controller-manager.service": templates.ControllerManagerUnit{
			Cluster: "demo", PodCIDRs: prefixes("10.244.0.0/16"), ServiceCIDRs: prefixes("10.96.0.0/16"),
		},
		"kube-controller-manager-dual.service": templates.ControllerManagerUnit{
			Cluster: "two families", PodCIDRs: prefixes("10.244.0.0/16", "fd00:244::/56"), ServiceCIDRs: prefixes("10.96.0.0/16", "fd00:96::/112"),
			NodeMaskIPv4: 25, NodeMaskIPv6: 64,
		},
		"kube-scheduler.service": templates.SchedulerUnit{},
		"scheduler.yaml":         templates.SchedulerConfig{},
		"containerd.service":     templates.ContainerdUnit{},
		"containerd.toml":        templates.ContainerdConfig{SandboxImage: "muster.local/pause:3.10"},
		"kubelet.service": templates.KubeletUnit{
			Node: "w-1", NodeIPs: []netip.Addr{addr("10.0.0.21")}, Labels: map[string]string{"disk": "ssd", "a": "100%"},
		},
		"kubelet.yaml": templates.KubeletConfig{ClusterDNS: []netip.Addr{addr("10.96.0.10")}, Domain: "cluster.local"},
		"kubelet-control-plane.yaml": templates.KubeletConfig{
			ClusterDNS: []netip.Addr{addr("10.96.0.10"), addr("fd00:96::a")}, Domain: "cluster.local",
			Taints:     []templates.Taint{templates.ControlPlaneTaint(), {Key: "gpu", Value: `"a: b"`, Effect: "NoExecute"}},
			ResolvConf: "/run/systemd/resolve/resolv.conf",
		},
		"logind.conf": templates.Logind{},
		"kubeconfig-files.yaml": templates.Kubeconfig{
			Cluster: "demo", Server: "https://10.0.0.11:6443", CAFile: "/etc/kubernetes/pki/ca.crt", User: "system:kube-scheduler",
			ClientCertFile: "/etc/kubernetes/pki/scheduler.crt", ClientKeyFile: "/etc/kubernetes/pki/scheduler.key",
		},
		"kubeconfig-inline.yaml": templates.Kubeconfig{
			Cluster: "demo", Server: "https://10.0.0.11:6443", CA: []byte("ca"), User: "admin",
			ClientCert: []byte("cert"), ClientKey: []byte("key"),
		},
		"kubeconfig-token.yaml": templates.Kubeconfig{
			Cluster: "demo", Server: "https://10.0.0.11:6443", CAFile: "/etc/kubernetes/pki/ca.crt", User: "bootstrap", Token: "abcdef.0123456789abcdef",
		},
		"flanneld.service":        templates.FlanneldUnit{Node: "w-1", Addresses: []netip.Addr{addr("10.0.0.21")}},
		"flanneld-dual.service":   templates.FlanneldUnit{Node: "w-1", Addresses: []netip.Addr{addr("2001:db8::21"), addr("10.0.0.21")}},
		"flannel.json":            templates.FlannelNetConf{Networks: prefixes("10.244.0.0/16")},
		"flannel-dual.json":       templates.FlannelNetConf{Networks: prefixes("10.244.0.0/16", "fd00:244::/56")},
		"cni.conflist":            templates.CNIConflist{Subnets: prefixes("10.244.1.1/24"), MTU: 1450},
		"muster-approver.service": templates.ApproverUnit{Server: "https://10.0.0.11:6443"},
		"muster-proxier.service":  templates.ProxierUnit{NodeIPs: []netip.Addr{addr("10.0.0.21")}},
		"proxier.yaml":            templates.ProxierConfig{Node: "w-1", PodCIDRs: prefixes("10.244.0.0/16")},
		"sysctl.conf":             templates.Sysctl{IPv6: true},
		"modules.conf":            templates.Modules{},
	}
}

func TestGoldens(t *testing.T) {
	for name, in := range outputs() {
		out, err := in.Render()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden.Equal(t, name+".golden", out)
		if strings.Contains(string(out), "<no value>") || !strings.HasSuffix(string(out), "\n") || strings.HasSuffix(string(out), "\n\n") {
			t.Errorf("%s: has a hole, or does not end with one line break", name)
		}
	}
}

func TestEmptyInputsAreFaults(t *testing.T) {
	for name, test := range map[string]struct {
		in   renderer
		want []string
	}{
		"apiserver":   {templates.APIServerUnit{}, []string{"kube-apiserver.service", "AdvertiseAddress", "EtcdServers", "ServiceCIDRs", "Domain"}},
		"kcm":         {templates.ControllerManagerUnit{}, []string{"Cluster", "PodCIDRs", "ServiceCIDRs"}},
		"containerd":  {templates.ContainerdConfig{}, []string{"SandboxImage"}},
		"kubelet":     {templates.KubeletUnit{}, []string{"Node", "NodeIPs"}},
		"kubelet.yml": {templates.KubeletConfig{}, []string{"ClusterDNS", "Domain"}},
		"kubeconfig":  {templates.Kubeconfig{}, []string{"Cluster", "Server", "User", "CAFile and CA"}},
		"half a pair": {templates.Kubeconfig{Cluster: "c", Server: "s", User: "u", CAFile: "f", ClientCertFile: "x"}, []string{"needs its key"}},
		"flanneld":    {templates.FlanneldUnit{}, []string{"Node", "Addresses"}},
		"flannel":     {templates.FlannelNetConf{}, []string{"Networks"}},
		"cni":         {templates.CNIConflist{}, []string{"Subnets"}},
		"approver":    {templates.ApproverUnit{}, []string{"Server"}},
		"proxier":     {templates.ProxierUnit{}, []string{"NodeIPs"}},
		"proxier.yml": {templates.ProxierConfig{}, []string{"Node", "PodCIDRs"}},
		"line break":  {templates.KubeletUnit{Node: "a\nExecStartPre=evil", NodeIPs: []netip.Addr{addr("10.0.0.1")}}, []string{"line break"}},
	} {
		_, err := test.in.Render()
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q in it", name, err, want)
			}
		}
	}
}
