// SPDX-License-Identifier: Apache-2.0

package templates_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	corev1 "k8s.io/api/core/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/templates"
)

// rendered gives the example of outputs() with that name.
func rendered(t *testing.T, name string) []byte {
	t.Helper()
	out, err := outputs()[name].Render()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// strict decodes as Kubernetes' programs do: unknown and repeated fields fail.
func strict[T any](t *testing.T, name string) T {
	t.Helper()
	var into T
	if err := yaml.UnmarshalStrict(rendered(t, name), &into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return into
}

func TestKubeletReadsItsConfiguration(t *testing.T) {
	worker := strict[kubeletv1beta1.KubeletConfiguration](t, "kubelet.yaml")
	if worker.CgroupDriver != "systemd" || !worker.RotateCertificates || !worker.ServerTLSBootstrap || worker.StaticPodPath != "" ||
		*worker.Authentication.Anonymous.Enabled || worker.Authorization.Mode != kubeletv1beta1.KubeletAuthorizationModeWebhook ||
		worker.ContainerRuntimeEndpoint != "unix:///run/containerd/containerd.sock" || worker.ClusterDNS[0] != "10.96.0.10" ||
		*worker.ResolverConfig != "/etc/resolv.conf" || worker.ShutdownGracePeriod.Duration != 30*time.Second || len(worker.RegisterWithTaints) != 0 {
		t.Errorf("worker: %+v", worker)
	}
	cp := strict[kubeletv1beta1.KubeletConfiguration](t, "kubelet-control-plane.yaml")
	want := []corev1.Taint{
		{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule},
		{Key: "gpu", Value: `"a: b"`, Effect: corev1.TaintEffectNoExecute},
	}
	if len(cp.RegisterWithTaints) != 2 || cp.RegisterWithTaints[0] != want[0] || cp.RegisterWithTaints[1] != want[1] {
		t.Errorf("control plane: taints %+v", cp.RegisterWithTaints)
	}
}

func TestControlPlaneReadsItsConfiguration(t *testing.T) {
	auth := strict[apiserverv1.AuthenticationConfiguration](t, "authentication.yaml")
	if auth.Anonymous == nil || !auth.Anonymous.Enabled || len(auth.Anonymous.Conditions) != 3 || len(auth.JWT) != 0 {
		t.Errorf("authentication: %+v", auth)
	}
	sched := strict[schedulerv1.KubeSchedulerConfiguration](t, "scheduler.yaml")
	if sched.ClientConnection.Kubeconfig != templates.SchedulerConf || !*sched.LeaderElection.LeaderElect || *sched.EnableProfiling {
		t.Errorf("scheduler: %+v", sched)
	}
	proxy := strict[proxyv1alpha1.KubeProxyConfiguration](t, "proxier.yaml")
	if proxy.Mode != "ipvs" || proxy.HostnameOverride != "w-1" || proxy.ClusterCIDR != "10.244.0.0/16" || proxy.HealthzBindAddress != "0.0.0.0:10256" {
		t.Errorf("proxier: %+v", proxy)
	}
}

func TestClientsReadTheirKubeconfig(t *testing.T) {
	for name, check := range map[string]func(*clientcmdapi.AuthInfo, *clientcmdapi.Cluster) bool{
		"kubeconfig-files.yaml": func(u *clientcmdapi.AuthInfo, c *clientcmdapi.Cluster) bool {
			return u.ClientKey == "/etc/kubernetes/pki/scheduler.key" && c.CertificateAuthority == "/etc/kubernetes/pki/ca.crt"
		},
		"kubeconfig-inline.yaml": func(u *clientcmdapi.AuthInfo, c *clientcmdapi.Cluster) bool {
			return string(u.ClientCertificateData) == "cert" && string(u.ClientKeyData) == "key" && string(c.CertificateAuthorityData) == "ca"
		},
		"kubeconfig-token.yaml": func(u *clientcmdapi.AuthInfo, _ *clientcmdapi.Cluster) bool {
			return u.Token == "abcdef.0123456789abcdef" && u.ClientCertificate == ""
		},
	} {
		config, err := clientcmd.Load(rendered(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		current := config.Contexts[config.CurrentContext]
		if current == nil || config.Clusters[current.Cluster] == nil || config.AuthInfos[current.AuthInfo] == nil {
			t.Errorf("%s: context %q leads nowhere", name, config.CurrentContext)
			continue
		}
		if c := config.Clusters[current.Cluster]; c.Server != "https://10.0.0.11:6443" || !check(config.AuthInfos[current.AuthInfo], c) {
			t.Errorf("%s: %+v", name, config)
		}
	}
}

// containerdConfig has the names of containerd's own types
// (internal/cri/config/config.go), which cannot be imported from outside.
type containerdConfig struct {
	Version         int      `toml:"version"`
	DisabledPlugins []string `toml:"disabled_plugins"`
	Plugins         struct {
		Images struct {
			Snapshotter  string            `toml:"snapshotter"`
			PinnedImages map[string]string `toml:"pinned_images"`
			Registry     struct {
				ConfigPath string `toml:"config_path"`
			} `toml:"registry"`
		} `toml:"io.containerd.cri.v1.images"`
		Runtime struct {
			CNI struct {
				BinDirs             []string `toml:"bin_dirs"`
				ConfDir             string   `toml:"conf_dir"`
				UseInternalLoopback bool     `toml:"use_internal_loopback"`
			} `toml:"cni"`
			Containerd struct {
				DefaultRuntimeName string `toml:"default_runtime_name"`
				Runtimes           map[string]struct {
					Type    string `toml:"runtime_type"`
					Options struct {
						BinaryName    string `toml:"BinaryName"`
						SystemdCgroup bool   `toml:"SystemdCgroup"`
					} `toml:"options"`
				} `toml:"runtimes"`
			} `toml:"containerd"`
		} `toml:"io.containerd.cri.v1.runtime"`
	} `toml:"plugins"`
}

func TestContainerdReadsItsConfiguration(t *testing.T) {
	var c containerdConfig
	dec := toml.NewDecoder(bytes.NewReader(rendered(t, "containerd.toml")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	runc := c.Plugins.Runtime.Containerd.Runtimes[c.Plugins.Runtime.Containerd.DefaultRuntimeName]
	if c.Version != 3 || c.Plugins.Images.PinnedImages["sandbox"] != "muster.local/pause:3.10" ||
		!runc.Options.SystemdCgroup || runc.Options.BinaryName != "/opt/muster/bin/runc" || runc.Type != "io.containerd.runc.v2" ||
		c.Plugins.Runtime.CNI.ConfDir != templates.CNIConfDir || c.Plugins.Runtime.CNI.BinDirs[0] != templates.CNIBinDir {
		t.Errorf("%+v", c)
	}
}

func TestCNIConflistIsJSON(t *testing.T) {
	type ipam struct {
		Type    string
		DataDir string
		Ranges  [][]struct{ Subnet netip.Prefix }
	}
	var list struct {
		CNIVersion, Name string
		Plugins          []struct {
			Type, Bridge, Backend                    string
			MTU                                      int
			HairpinMode, IsGateway, IsDefaultGateway bool
			Capabilities                             map[string]bool
			IPAM                                     ipam
		}
	}
	dec := json.NewDecoder(bytes.NewReader(rendered(t, "cni.conflist")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		t.Fatal(err)
	}
	bridge, portmap := list.Plugins[0], list.Plugins[1]
	if list.CNIVersion != "1.0.0" || bridge.Bridge != "cni0" || bridge.MTU != 1450 || !bridge.HairpinMode || !bridge.IsDefaultGateway ||
		bridge.IPAM.Ranges[0][0].Subnet != netip.MustParsePrefix("10.244.1.0/24") || !portmap.Capabilities["portMappings"] {
		t.Errorf("%+v", list)
	}
}

func TestFlannelConfigurationIsJSON(t *testing.T) {
	// The names of flannel's pkg/subnet/config.go.
	var conf struct {
		EnableIPv4, EnableIPv6, EnableNFTables bool
		Network, IPv6Network                   netip.Prefix
		Backend                                struct {
			Type          string
			DirectRouting bool
		}
	}
	dec := json.NewDecoder(bytes.NewReader(rendered(t, "flannel-dual.json")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&conf); err != nil {
		t.Fatal(err)
	}
	if !conf.EnableIPv4 || !conf.EnableIPv6 || !conf.EnableNFTables || conf.Backend.Type != "vxlan" || !conf.Backend.DirectRouting ||
		conf.Network.String() != "10.244.0.0/16" || conf.IPv6Network.String() != "fd00:244::/56" {
		t.Errorf("%+v", conf)
	}
}
