// SPDX-License-Identifier: Apache-2.0

package templates

import (
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/muster-project/muster/pki"
)

// APIServerUnit is kube-apiserver.service.
type APIServerUnit struct {
	// AdvertiseAddress is where members of the cluster reach this server; it
	// becomes an endpoint of the Service kubernetes.
	AdvertiseAddress netip.Addr
	// Port is the secure port; 0 means 6443.
	Port int
	// EtcdServers are client URLs: https://10.0.0.11:2379.
	EtcdServers  []string
	ServiceCIDRs []netip.Prefix
	// Domain is the cluster's: cluster.local.
	Domain string
}

// ServiceAccountIssuer is the issuer of service account tokens for a cluster
// domain. It is part of every token, so it must never change.
func ServiceAccountIssuer(domain string) string {
	return "https://kubernetes.default.svc." + domain
}

// Render gives the unit file.
func (u APIServerUnit) Render() ([]byte, error) {
	n := need{what: APIServerService}
	if err := n.addr("AdvertiseAddress", u.AdvertiseAddress).some("EtcdServers", len(u.EtcdServers)).
		some("ServiceCIDRs", len(u.ServiceCIDRs)).str("Domain", u.Domain).err(); err != nil {
		return nil, err
	}
	if u.Port == 0 {
		u.Port = 6443
	}
	return renderProgram("kube-apiserver.service.tmpl", u.args())
}

func (u APIServerUnit) args() []string {
	etcd, kubelet, proxy := pki.APIServerEtcdClient(), pki.APIServerKubeletClient(), pki.FrontProxyClient()
	serving := pki.APIServer(nil, nil)
	return []string{
		"--advertise-address=" + u.AdvertiseAddress.String(),
		"--allow-privileged=true",
		"--authentication-config=" + AuthenticationPath,
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + inPKI(pki.Kubernetes.CertFile()),
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--etcd-cafile=" + inPKI(pki.Etcd.CertFile()),
		"--etcd-certfile=" + inPKI(etcd.CertFile()),
		"--etcd-keyfile=" + inPKI(etcd.KeyFile()),
		"--etcd-servers=" + strings.Join(u.EtcdServers, ","),
		"--kubelet-certificate-authority=" + inPKI(pki.Kubernetes.CertFile()),
		"--kubelet-client-certificate=" + inPKI(kubelet.CertFile()),
		"--kubelet-client-key=" + inPKI(kubelet.KeyFile()),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--profiling=false",
		"--proxy-client-cert-file=" + inPKI(proxy.CertFile()),
		"--proxy-client-key-file=" + inPKI(proxy.KeyFile()),
		"--requestheader-allowed-names=" + proxy.CommonName,
		"--requestheader-client-ca-file=" + inPKI(pki.FrontProxy.CertFile()),
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=" + strconv.Itoa(u.Port),
		"--service-account-issuer=" + ServiceAccountIssuer(u.Domain),
		"--service-account-key-file=" + inPKI(pki.ServiceAccountPubFile),
		"--service-account-lookup=true",
		"--service-account-signing-key-file=" + inPKI(pki.ServiceAccountKeyFile),
		"--service-cluster-ip-range=" + joinStringers(u.ServiceCIDRs),
		// Without it the server waits its whole request timeout, a minute, for
		// watches that nobody ends (k8s.io/apiserver/pkg/server/filters,
		// WithWatchTerminationDuringShutdown).
		"--shutdown-watch-termination-grace-period=5s",
		"--tls-cert-file=" + inPKI(serving.CertFile()),
		"--tls-min-version=VersionTLS13",
		"--tls-private-key-file=" + inPKI(serving.KeyFile()),
	}
}

// Authentication is the API server's AuthenticationConfiguration: anonymous
// requests may ask for health and for nothing else.
type Authentication struct{}

// Render gives the YAML document for AuthenticationPath.
func (Authentication) Render() ([]byte, error) {
	return render("authentication.yaml.tmpl", struct{}{})
}

// ControllerManagerUnit is kube-controller-manager.service.
type ControllerManagerUnit struct {
	// Cluster is the cluster's name, a prefix of what cloud controllers make.
	Cluster      string
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
	// NodeMaskIPv4 and NodeMaskIPv6 are the prefix lengths of a node's subnet;
	// 0 means Kubernetes' own 24 and 64.
	NodeMaskIPv4, NodeMaskIPv6 int
	// Alone is set when no other control-plane host runs one. Then there is
	// nobody to elect against, and a lease that a slow disk renews too late
	// would only end a healthy program.
	Alone bool
}

// Render gives the unit file.
func (u ControllerManagerUnit) Render() ([]byte, error) {
	n := need{what: ControllerManagerService}
	if err := n.str("Cluster", u.Cluster).some("PodCIDRs", len(u.PodCIDRs)).some("ServiceCIDRs", len(u.ServiceCIDRs)).err(); err != nil {
		return nil, err
	}
	return renderProgram("kube-controller-manager.service.tmpl", u.args())
}

func (u ControllerManagerUnit) args() []string {
	ca := pki.Kubernetes
	args := []string{
		"--allocate-node-cidrs=true",
		"--authentication-kubeconfig=" + ControllerManagerConf,
		"--authorization-kubeconfig=" + ControllerManagerConf,
		"--bind-address=127.0.0.1",
		"--client-ca-file=" + inPKI(ca.CertFile()),
		"--cluster-cidr=" + joinStringers(u.PodCIDRs),
		"--cluster-name=" + u.Cluster,
		"--cluster-signing-cert-file=" + inPKI(ca.CertFile()),
		"--cluster-signing-key-file=" + inPKI(ca.KeyFile()),
		// The two that bootstrap tokens need are off by default.
		"--controllers=*,bootstrapsigner,tokencleaner",
		// Fifty controllers make their service accounts and tokens when it
		// starts; at the default of 20 requests a second, the first pod waits
		// for it. The server defends itself by priority and fairness.
		"--kube-api-burst=400",
		"--kube-api-qps=200",
		"--kubeconfig=" + ControllerManagerConf,
		fmt.Sprintf("--leader-elect=%t", !u.Alone),
		"--profiling=false",
		"--requestheader-allowed-names=" + pki.FrontProxyClient().CommonName,
		"--requestheader-client-ca-file=" + inPKI(pki.FrontProxy.CertFile()),
		"--root-ca-file=" + inPKI(ca.CertFile()),
		"--service-account-private-key-file=" + inPKI(pki.ServiceAccountKeyFile),
		"--service-cluster-ip-range=" + joinStringers(u.ServiceCIDRs),
		"--tls-min-version=VersionTLS13",
		"--use-service-account-credentials=true",
	}
	return append(args, u.maskArgs()...)
}

// maskArgs knows that the flags of the single families exist for dual-stack
// clusters only (k8s.io/kubernetes/cmd/kube-controller-manager/app/core.go,
// setNodeCIDRMaskSizes).
func (u ControllerManagerUnit) maskArgs() []string {
	var args []string
	dual := len(u.PodCIDRs) > 1
	if u.NodeMaskIPv4 != 0 && dual {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size-ipv4=%d", u.NodeMaskIPv4))
	}
	if u.NodeMaskIPv6 != 0 && dual {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size-ipv6=%d", u.NodeMaskIPv6))
	}
	if dual {
		return args
	}
	mask := u.NodeMaskIPv4
	if u.PodCIDRs[0].Addr().Is6() {
		mask = u.NodeMaskIPv6
	}
	if mask != 0 {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size=%d", mask))
	}
	return args
}

// SchedulerUnit is kube-scheduler.service.
type SchedulerUnit struct{}

// Render gives the unit file.
func (SchedulerUnit) Render() ([]byte, error) {
	return renderProgram("kube-scheduler.service.tmpl", []string{
		"--authentication-kubeconfig=" + SchedulerConf,
		"--authorization-kubeconfig=" + SchedulerConf,
		"--bind-address=127.0.0.1",
		"--config=" + SchedulerConfigPath,
		"--tls-min-version=VersionTLS13",
	})
}

// SchedulerConfig is the scheduler's KubeSchedulerConfiguration.
type SchedulerConfig struct {
	Alone bool // as in ControllerManagerUnit
}

// Render gives the YAML document for SchedulerConfigPath.
func (c SchedulerConfig) Render() ([]byte, error) {
	return render("scheduler.yaml.tmpl", struct {
		Kubeconfig string
		Elect      bool
	}{SchedulerConf, !c.Alone})
}

// program is what a unit of a control-plane program is rendered from.
type program struct {
	User, BinDir string
	Args         []string
}

func renderProgram(file string, args []string) ([]byte, error) {
	return render(file, program{User: KubeUser, BinDir: BinDir, Args: args})
}

func inPKI(file string) string { return path.Join(PKIDir, file) }
