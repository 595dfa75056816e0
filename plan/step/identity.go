// SPDX-License-Identifier: Apache-2.0

package step

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-project/muster/pki"
)

// Identity gives a kubelet its first client certificate without a token. It
// is for the host that keeps the CA: whoever is root there can sign anyway,
// and nobody has to wait for the controllers that approve and sign requests.
// kubeadm does the same there (its kubeconfig phase). From then on the kubelet
// rotates it as any other.
type Identity struct {
	Request pki.Request
	Server  string // https://host:port
	CAPath  string
	Config  string // the kubelet's kubeconfig
}

// kubeletFirstCert is the pair that KubeletClientCert, a link, leads to until
// the kubelet rotates (k8s.io/client-go/util/certificate, fileStore: it takes
// a link only, and turns it to each new pair).
const kubeletFirstCert = "/var/lib/kubelet/pki/kubelet-client-first.pem"

func (i Identity) String() string { return "client certificate of " + i.Request.CommonName }

// Touches names the pair, the link to it and the kubeconfig.
func (i Identity) Touches() []Touch { return paths(kubeletFirstCert, KubeletClientCert, i.Config) }

// Done holds when the kubelet has a kubeconfig and a certificate that this
// cluster's CA signed.
func (i Identity) Done(_ context.Context, h *Host) (bool, error) {
	files, err := readAll(h, KubeletClientCert, i.CAPath, i.Config)
	if err != nil || files == nil {
		return false, err
	}
	return kubeletCertUsable(files[0], files[1], i.Request.CommonName, h.Now()), nil
}

// Do makes a key, has it certified, and writes the kubeconfig last: with it
// and without a certificate the kubelet would not start.
func (i Identity) Do(ctx context.Context, h *Host) error {
	pair, err := newPair(ctx, h, i.Request)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(h.Path(i.CAPath))
	if err != nil {
		return err
	}
	if err := h.WriteFile(kubeletFirstCert, 0o600, "", bytes.NewReader(pair)); err != nil {
		return err
	}
	if err := clearWay(h.Path(KubeletClientCert)); err != nil {
		return err
	}
	link := Link{Path: KubeletClientCert, Target: filepath.Base(kubeletFirstCert)}
	if err := link.Do(ctx, h); err != nil {
		return err
	}
	config := fmt.Sprintf(kubeletKubeconfig, base64.StdEncoding.EncodeToString(ca), i.Server, KubeletClientCert)
	return h.WriteFile(i.Config, 0o600, "", bytes.NewReader([]byte(config)))
}

// newPair returns a certificate and its new key in one PEM file.
func newPair(ctx context.Context, h *Host, r pki.Request) ([]byte, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.CSR(key, r)
	if err != nil {
		return nil, err
	}
	cert, err := h.Operator.Sign(ctx, r, csr)
	if err != nil {
		return nil, fmt.Errorf("sign by the %s CA: %w", r.CA, err)
	}
	private, err := pki.EncodeKey(key)
	return slices.Concat(cert, private), err
}

// clearWay removes what may be no link and could not be replaced by one.
func clearWay(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

var kubeletKubeconfig = strings.TrimLeft(`
apiVersion: v1
kind: Config
clusters:
- name: muster
  cluster:
    certificate-authority-data: %s
    server: %s
users:
- name: kubelet
  user:
    client-certificate: %[3]s
    client-key: %[3]s
contexts:
- name: kubelet
  context: {cluster: muster, user: kubelet}
current-context: kubelet
`, "\n")
