// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"net/netip"
	"slices"
)

// Subjects that Kubernetes or the cluster's own RBAC give rights to.
const (
	// GroupMasters bypasses authorization altogether and cannot be revoked
	// (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles).
	GroupMasters = "system:masters"
	// GroupAdmins is bound to cluster-admin by addons.BootstrapRBAC, so a lost
	// credential of this group can be cut off by deleting the binding.
	GroupAdmins = "muster:cluster-admins"
	// GroupBootstrappers is whom a bootstrap token speaks for; bound to the right
	// to ask for a node's first certificate by addons.BootstrapRBAC. The API
	// server takes groups of tokens only below this prefix (KEP-130).
	GroupBootstrappers = "system:bootstrappers:muster"
	// UserKubeletClient is who the API server is towards kubelets; bound to
	// system:kubelet-api-admin by addons.BootstrapRBAC.
	UserKubeletClient = "kube-apiserver-kubelet-client"
	// UserProxier is bound to system:node-proxier by the API server itself
	// (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go).
	UserProxier = "system:kube-proxy"
	// UserFlannel is bound by addons.FlannelRBAC.
	UserFlannel = "system:muster:flannel"
	// UserApprover is bound by addons.ApproverRBAC.
	UserApprover = "system:muster:approver"
)

const apiServerEtcdClient = "apiserver-etcd-client"

// Service account keys: the private one signs tokens (kube-controller-manager
// and kube-apiserver), the public one verifies them.
const (
	ServiceAccountKeyFile = "sa.key"
	ServiceAccountPubFile = "sa.pub"
)

// APIServerNames are the names under which pods and the API server's own
// loopback client reach it, whatever the host is called
// (https://kubernetes.io/docs/setup/best-practices/certificates/#all-certificates).
func APIServerNames(domain string) []string {
	return []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost"}
}

// APIServer is what the API server shows to everyone. names are usually
// APIServerNames and the host's; ips the host's address, the first address of
// each service CIDR, and every virtual address it is reached by. Loopback
// addresses are always included: the host's own programs dial them.
func APIServer(names []string, ips []netip.Addr) Request {
	return server(Request{Name: "apiserver", CA: Kubernetes, CommonName: "kube-apiserver", Usages: []Usage{ServerAuth}},
		names, append(loopback(), ips...))
}

// APIServerKubeletClient is who the API server is when it dials kubelets for
// logs, exec and port-forward (--kubelet-client-certificate).
func APIServerKubeletClient() Request {
	return client("apiserver-kubelet-client", Kubernetes, UserKubeletClient)
}

// APIServerEtcdClient is who the API server is towards etcd (--etcd-certfile).
// etcd's RBAC is off; any certificate of etcd's authority is all-powerful there.
func APIServerEtcdClient() Request {
	return client(apiServerEtcdClient, Etcd, "kube-apiserver-etcd-client")
}

// FrontProxyClient is who the API server is towards extension API servers
// (--proxy-client-cert-file). They know the name from the ConfigMap
// extension-apiserver-authentication, which says --requestheader-allowed-names
// (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).
func FrontProxyClient() Request {
	return client("front-proxy-client", FrontProxy, "front-proxy-client")
}

// ControllerManager is bound to the role of the same name by the API server
// (bootstrappolicy/policy.go, ClusterRoleBindings).
func ControllerManager() Request {
	return client("controller-manager", Kubernetes, "system:kube-controller-manager")
}

// Scheduler is bound to the roles system:kube-scheduler and
// system:volume-scheduler by the API server (bootstrappolicy/policy.go).
func Scheduler() Request {
	return client("scheduler", Kubernetes, "system:kube-scheduler")
}

// Admin is a person with every right, by a binding that can be deleted.
func Admin(user string) Request {
	return client("admin", Kubernetes, user, GroupAdmins)
}

// SuperAdmin is all-powerful before any RBAC object exists, which is when the
// bindings of Admin have to be made. It stays on control-plane hosts and is
// the way back in when the bindings are gone.
func SuperAdmin() Request {
	return client("super-admin", Kubernetes, "muster:super-admin", GroupMasters)
}

// EtcdServer is what the member called name shows to clients. It is also a
// client: the gRPC gateway inside etcd dials its own client port with it
// (https://github.com/etcd-io/etcd/issues/9785).
func EtcdServer(name string, ips ...netip.Addr) Request {
	return server(Request{Name: "server", CA: Etcd, CommonName: name, Usages: []Usage{ServerAuth, ClientAuth}},
		[]string{name, "localhost"}, append(loopback(), ips...))
}

// EtcdPeer is what members show to each other, in both directions. The address
// is what etcd compares with the one a peer comes from
// (https://etcd.io/docs/v3.6/op-guide/security/#notes-for-tls-authentication).
func EtcdPeer(name string, ips ...netip.Addr) Request {
	return server(Request{Name: "peer", CA: Etcd, CommonName: name, Usages: []Usage{ServerAuth, ClientAuth}},
		[]string{name, "localhost"}, append(loopback(), ips...))
}

// EtcdHealthClient is who `muster-etcd health` is towards its member.
func EtcdHealthClient() Request {
	return client("healthcheck-client", Etcd, "muster-etcd-healthcheck-client")
}

// Proxier is who muster-proxier is on the named node. The user is the one that
// kube-proxy has, for the binding that exists; the node is told apart in audit
// logs by the organization, which no binding names.
func Proxier(node string) Request {
	return client("proxier", Kubernetes, UserProxier, "muster:proxier:"+node)
}

// Kubelet is who the kubelet of the named node is towards the API server
// (https://kubernetes.io/docs/reference/access-authn-authz/node/).
func Kubelet(node string) Request {
	return client("kubelet-client", Kubernetes, "system:node:"+node, "system:nodes")
}

// Flannel is who flanneld is on the named node. flanneld writes annotations of
// its own Node and watches all (its --kube-subnet-mgr mode).
func Flannel(node string) Request {
	return client("flannel", Kubernetes, UserFlannel, "muster:flannel:"+node)
}

// Approver is who `muster-node approve` is: it may approve the serving
// certificates of kubelets and nothing else.
func Approver() Request { return client("approver", Kubernetes, UserApprover) }

func client(name string, ca CA, cn string, organization ...string) Request {
	return Request{
		Name: name, CA: ca, CommonName: cn, Organization: slices.Clone(organization),
		Usages: []Usage{ClientAuth}, Validity: LeafValidity,
	}
}

func loopback() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}
