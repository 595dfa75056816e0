// SPDX-License-Identifier: Apache-2.0

package templates

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/pki"
)

// How long pods get when their host shuts down.
const (
	ShutdownGracePeriod             = 30 * time.Second
	ShutdownGracePeriodCriticalPods = 10 * time.Second
)

// ContainerdUnit is containerd.service.
type ContainerdUnit struct{}

// Render gives the unit file.
func (ContainerdUnit) Render() ([]byte, error) {
	return render("containerd.service.tmpl", struct{ BinDir, Config string }{BinDir, ContainerdConfigPath})
}

// ContainerdConfig is containerd's configuration, version 3.
type ContainerdConfig struct {
	// SandboxImage is the pause image, under the name it was imported with.
	SandboxImage string
}

// Render gives the TOML document for ContainerdConfigPath.
func (c ContainerdConfig) Render() ([]byte, error) {
	n := need{what: ContainerdConfigPath}
	if err := n.str("SandboxImage", c.SandboxImage).err(); err != nil {
		return nil, err
	}
	return render("containerd.toml.tmpl", struct {
		SandboxImage, RegistryHosts, CNIBinDir, CNIConfDir, Runc string
	}{c.SandboxImage, ContainerdRegistryHosts, CNIBinDir, CNIConfDir, BinDir + "/runc"})
}

// KubeletUnit is kubelet.service.
type KubeletUnit struct {
	// Node is the name of the Node object.
	Node string
	// NodeIPs are the addresses that the Node shows, one per family.
	NodeIPs []netip.Addr
	// Labels are set when the Node registers; NodeRestriction forbids most
	// below kubernetes.io.
	Labels map[string]string
}

// Render gives the unit file.
func (u KubeletUnit) Render() ([]byte, error) {
	n := need{what: KubeletService}
	if err := n.str("Node", u.Node).some("NodeIPs", len(u.NodeIPs)).err(); err != nil {
		return nil, err
	}
	args := []string{
		"--bootstrap-kubeconfig=" + KubeletBootstrapConf,
		"--config=" + KubeletConfigPath,
		"--hostname-override=" + u.Node,
		"--kubeconfig=" + KubeletConf,
		"--node-ip=" + joinStringers(u.NodeIPs),
	}
	if len(u.Labels) > 0 {
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(u.Labels)) {
			labels = append(labels, key+"="+u.Labels[key])
		}
		args = append(args, "--node-labels="+strings.Join(labels, ","))
	}
	return render("kubelet.service.tmpl", struct {
		BinDir string
		Args   []string
	}{BinDir, args})
}

// A Taint keeps pods off a node unless they tolerate it.
type Taint struct{ Key, Value, Effect string }

// ControlPlaneTaint is the one that add-ons everywhere tolerate by name.
func ControlPlaneTaint() Taint {
	return Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}
}

// KubeletConfig is the kubelet's KubeletConfiguration.
type KubeletConfig struct {
	// ClusterDNS are the addresses of the Service kube-dns.
	ClusterDNS []netip.Addr
	Domain     string
	Taints     []Taint
	// ResolvConf is what pods with the host's DNS get; "" means
	// /etc/resolv.conf. With systemd-resolved it must be
	// /run/systemd/resolve/resolv.conf: the other one names a loopback address.
	ResolvConf string
}

// Render gives the YAML document for KubeletConfigPath.
func (c KubeletConfig) Render() ([]byte, error) {
	n := need{what: KubeletConfigPath}
	if err := n.some("ClusterDNS", len(c.ClusterDNS)).str("Domain", c.Domain).err(); err != nil {
		return nil, err
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	return render("kubelet.yaml.tmpl", struct {
		ClientCA, ClusterDomain, RuntimeEndpoint, ResolvConf, Logind, VolumePluginDir string
		ClusterDNS                                                                    []netip.Addr
		RegisterWithTaints                                                            []Taint
		ShutdownGracePeriod, ShutdownGracePeriodCriticalPods                          time.Duration
	}{
		ClientCA: inPKI(pki.Kubernetes.CertFile()), ClusterDomain: c.Domain,
		RuntimeEndpoint: "unix://" + ContainerdSocket, ResolvConf: c.ResolvConf, Logind: LogindPath,
		VolumePluginDir: KubeletDir + "/volumeplugins",
		ClusterDNS:      c.ClusterDNS, RegisterWithTaints: c.Taints,
		ShutdownGracePeriod: ShutdownGracePeriod, ShutdownGracePeriodCriticalPods: ShutdownGracePeriodCriticalPods,
	})
}

// Logind lets the kubelet delay a shutdown for ShutdownGracePeriod, where
// logind's own limit is 5 seconds. A kubelet that finds less writes the file
// itself, so these are its bytes exactly (pkg/kubelet/nodeshutdown/systemd,
// OverrideInhibitDelay): whoever came first, the file is right, and it is in
// the plan, so that a reset removes it.
type Logind struct{}

// Render gives the file for LogindPath.
func (Logind) Render() ([]byte, error) {
	return render("logind.conf.tmpl", struct{ Seconds int }{int(ShutdownGracePeriod.Seconds())})
}

// Kubeconfig says how to reach an API server and as whom. The credentials are
// one of: Token, the two files, or the two PEM blocks; none is allowed too,
// for a client that gets its own.
type Kubeconfig struct {
	Cluster string // name of the cluster entry
	Server  string // https://10.0.0.11:6443
	// CAFile is a path on the host the file is for; CA is PEM. One of them.
	CAFile string
	CA     []byte
	User   string // name of the user entry

	Token                         string
	ClientCertFile, ClientKeyFile string
	ClientCert, ClientKey         []byte // PEM
}

// Render gives the YAML document.
func (k Kubeconfig) Render() ([]byte, error) {
	n := need{what: "kubeconfig of " + k.User}
	n.str("Cluster", k.Cluster).str("Server", k.Server).str("User", k.User).some("CAFile and CA", len(k.CAFile)+len(k.CA))
	if (k.ClientCertFile == "") != (k.ClientKeyFile == "") || (len(k.ClientCert) == 0) != (len(k.ClientKey) == 0) {
		n.errs = append(n.errs, fmt.Errorf("a client certificate needs its key, and a key its certificate"))
	}
	if err := n.err(); err != nil {
		return nil, err
	}
	return render("kubeconfig.yaml.tmpl", struct {
		Cluster, Server, CAFile, CAData, User, Context, Token        string
		ClientCertFile, ClientKeyFile, ClientCertData, ClientKeyData string
	}{
		Cluster: k.Cluster, Server: k.Server, CAFile: k.CAFile, CAData: base64Of(k.CA),
		User: k.User, Context: k.User + "@" + k.Cluster, Token: k.Token,
		ClientCertFile: k.ClientCertFile, ClientKeyFile: k.ClientKeyFile,
		ClientCertData: base64Of(k.ClientCert), ClientKeyData: base64Of(k.ClientKey),
	})
}
