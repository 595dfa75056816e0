// SPDX-License-Identifier: Apache-2.0

package templates

// Directories on a host.
const (
	BinDir        = "/opt/muster/bin"
	CNIBinDir     = "/opt/cni/bin" // where CNI add-ons that bring their own plugins put them
	CNIConfDir    = "/etc/cni/net.d"
	UnitDir       = "/etc/systemd/system"
	ConfigDir     = "/etc/muster"
	KubernetesDir = "/etc/kubernetes"
	PKIDir        = "/etc/kubernetes/pki" // paths below it come from package pki
	KubeletDir    = "/var/lib/kubelet"
	EtcdDataDir   = "/var/lib/etcd"
)

// Files that units refer to.
const (
	EtcdConfigPath          = "/etc/muster/etcd.yaml"
	AuthenticationPath      = "/etc/kubernetes/authentication.yaml"
	ControllerManagerConf   = "/etc/kubernetes/controller-manager.conf"
	SchedulerConf           = "/etc/kubernetes/scheduler.conf"
	SchedulerConfigPath     = "/etc/kubernetes/scheduler.yaml"
	KubeletConfigPath       = "/var/lib/kubelet/config.yaml"
	KubeletConf             = "/etc/kubernetes/kubelet.conf" // written by the kubelet itself
	KubeletBootstrapConf    = "/etc/kubernetes/bootstrap-kubelet.conf"
	ContainerdConfigPath    = "/etc/containerd/config.toml"
	ContainerdSocket        = "/run/containerd/containerd.sock"
	FlannelNetConfPath      = "/etc/muster/flannel.json"
	FlannelConf             = "/etc/kubernetes/flannel.conf"
	FlannelSubnetEnv        = "/run/flannel/subnet.env"
	CNIConflistPath         = "/etc/cni/net.d/10-muster.conflist"
	ProxierConfigPath       = "/etc/muster/proxier.yaml"
	ProxierConf             = "/etc/kubernetes/proxier.conf"
	SysctlPath              = "/etc/sysctl.d/90-muster.conf"
	ModulesLoadPath         = "/etc/modules-load.d/muster.conf"
	LogindPath              = "/etc/systemd/logind.conf.d/99-kubelet.conf" // the name the kubelet itself would use
	ContainerdRegistryHosts = "/etc/containerd/certs.d"
)

// Units.
const (
	EtcdService              = "etcd.service"
	APIServerService         = "kube-apiserver.service"
	ControllerManagerService = "kube-controller-manager.service"
	SchedulerService         = "kube-scheduler.service"
	ContainerdService        = "containerd.service"
	KubeletService           = "kubelet.service"
	FlanneldService          = "flanneld.service"
	ProxierService           = "muster-proxier.service"
)

// System users. Each owns, with mode 0600, the keys that its programs read:
//
//	muster-etcd  etcd/server.key etcd/peer.key etcd/healthcheck-client.key
//	muster-kube  ca.key sa.key apiserver.key apiserver-kubelet-client.key
//	             apiserver-etcd-client.key front-proxy-client.key
//	             controller-manager.key scheduler.key, and the .conf files of
//	             those two
//
// Everything else belongs to root. ca.key is among them because
// kube-controller-manager signs the certificates of kubelets.
const (
	EtcdUser = "muster-etcd"
	KubeUser = "muster-kube"
)
