// SPDX-License-Identifier: Apache-2.0

package addons

import "github.com/muster-project/muster/pki"

// BootstrapRBAC lets people administer, kubelets join and renew their client
// certificates, and the API server reach kubelets. Nothing here approves the
// serving certificates of kubelets: their names have to be checked first.
//
// It has to be applied as pki.SuperAdmin: the rights of pki.Admin come from it.
// Proxiers need nothing here: the API server itself binds the user
// system:kube-proxy to system:node-proxier, which since 1.33 includes
// ServiceCIDRs (bootstrappolicy/policy.go).
func BootstrapRBAC() (Addon, error) {
	objects, err := load("bootstrap.yaml", struct{ Admins, KubeletClient, Bootstrappers string }{
		pki.GroupAdmins, pki.UserKubeletClient, pki.GroupBootstrappers,
	})
	if err != nil {
		return Addon{}, err
	}
	return Addon{Name: "bootstrap", Objects: objects}, nil
}

// FlannelRBAC is what flanneld, which runs on the hosts as pki.UserFlannel,
// needs of the API.
func FlannelRBAC() (Addon, error) {
	objects, err := load("flannel.yaml", struct{ User string }{pki.UserFlannel})
	if err != nil {
		return Addon{}, err
	}
	return Addon{Name: "flannel", Objects: objects}, nil
}
