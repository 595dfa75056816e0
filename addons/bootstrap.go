// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/muster-project/muster/pki"
)

// GroupBootstrappers is what a joining kubelet's token says it belongs to.
const GroupBootstrappers = "system:bootstrappers:muster"

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
		pki.GroupAdmins, pki.UserKubeletClient, GroupBootstrappers,
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

// Token is a bootstrap token in its two parts: whoever knows both may join as
// one of Groups until it expires.
type Token struct {
	ID      string // 6 characters of a-z0-9, not secret
	Secret  string // 16 characters of a-z0-9
	Expires time.Time
	Groups  []string // each system:bootstrappers:...; nil means GroupBootstrappers
}

// String gives the form that clients send as a bearer token. It is a secret.
func (t Token) String() string { return t.ID + "." + t.Secret }

// BootstrapToken is the Secret that makes the token known to the API server;
// kube-controller-manager's tokencleaner deletes it when it has expired
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
func BootstrapToken(t Token) (Object, error) {
	// Never the token itself in an error: errors end up in logs.
	if !regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(t.String()) {
		return Object{}, fmt.Errorf("bootstrap token %q: want an ID of 6 and a secret of 16 characters of a-z and 0-9", t.ID)
	}
	if t.Expires.IsZero() {
		return Object{}, fmt.Errorf("bootstrap token %s: has no expiry", t.ID)
	}
	if t.Groups == nil {
		t.Groups = []string{GroupBootstrappers}
	}
	for _, g := range t.Groups {
		if !strings.HasPrefix(g, "system:bootstrappers:") {
			return Object{}, fmt.Errorf("bootstrap token %s: group %q does not begin with %q", t.ID, g, "system:bootstrappers:")
		}
	}
	return secretObject("kube-system", "bootstrap-token-"+t.ID, "bootstrap.kubernetes.io/token", tokenData{
		Description: "lets hosts join; made by muster", ID: t.ID, Secret: t.Secret,
		Expiration: t.Expires.UTC().Format(time.RFC3339), Authentication: "true",
		Groups: strings.Join(t.Groups, ","),
	})
}

// tokenData has the keys that the token authenticator reads
// (k8s.io/cluster-bootstrap/token/api).
type tokenData struct {
	Description    string `json:"description"`
	ID             string `json:"token-id"`
	Secret         string `json:"token-secret"`
	Expiration     string `json:"expiration"`
	Authentication string `json:"usage-bootstrap-authentication"`
	Groups         string `json:"auth-extra-groups"`
}

func secretObject[T any](namespace, name, secretType string, data T) (Object, error) {
	type meta struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	// JSON is YAML.
	doc, err := json.MarshalIndent(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   meta   `json:"metadata"`
		Type       string `json:"type"`
		StringData T      `json:"stringData"`
	}{"v1", "Secret", meta{namespace, name}, secretType, data}, "", "  ")
	if err != nil {
		return Object{}, fmt.Errorf("encode secret %s/%s: %w", namespace, name, err)
	}
	return object(doc)
}
