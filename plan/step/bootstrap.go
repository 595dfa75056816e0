// SPDX-License-Identifier: Apache-2.0

package step

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// KubeletClientCert is where the kubelet keeps its rotated client certificate
// and key (one file, both).
const KubeletClientCert = "/var/lib/kubelet/pki/kubelet-client-current.pem"

// Bootstrap lets a kubelet ask for its first certificate: a kubeconfig with a
// token that lives for minutes and is good for one node. It is wanted only
// until the kubelet has a certificate of its own.
type Bootstrap struct {
	Node   string
	Server string // https://host:port
	CAPath string
	Path   string
	Config string // the kubeconfig that the kubelet writes once it is joined
}

func (b Bootstrap) String() string { return "bootstrap token for " + b.Node }

// Touches names the kubeconfig, and what Do moves out of the kubelet's way and
// the kubelet then writes itself.
func (b Bootstrap) Touches() []Touch { return paths(b.Path, KubeletClientCert, b.Config) }

// Done holds when the kubelet has a certificate that this cluster's CA signed.
func (b Bootstrap) Done(_ context.Context, h *Host) (bool, error) {
	files, err := readAll(h, KubeletClientCert, b.CAPath)
	if err != nil || files == nil {
		return false, err
	}
	return kubeletCertUsable(files[0], files[1], "system:node:"+b.Node, h.Now()), nil
}

// kubeletCertUsable reports whether the kubelet can go on with its own
// certificate. How much life is left is the kubelet's business: it rotates at
// 70 to 90 % of it, so muster's own rule of a third would interfere.
func kubeletCertUsable(certPEM, caPEM []byte, user string, now time.Time) bool {
	cert, err := firstCert(certPEM)
	if err != nil {
		return false
	}
	ca, err := firstCert(caPEM)
	if err != nil || cert.CheckSignatureFrom(ca) != nil {
		return false
	}
	return cert.Subject.CommonName == user && now.Before(cert.NotAfter)
}

func firstCert(data []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("no certificate in it")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
		data = rest
	}
}

// Do asks the operator for a token and writes the kubeconfig, 0600. A stale
// certificate of another cluster is moved out of the kubelet's way: it would
// use it rather than bootstrap.
func (b Bootstrap) Do(ctx context.Context, h *Host) error {
	token, err := h.Operator.Token(ctx, b.Node)
	if err != nil {
		return fmt.Errorf("get a bootstrap token: %w", err)
	}
	ca, err := os.ReadFile(h.Path(b.CAPath))
	if err != nil {
		return err
	}
	if err := os.Remove(h.Path(KubeletClientCert)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(h.Path(b.Config)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	config := fmt.Sprintf(bootstrapKubeconfig, base64.StdEncoding.EncodeToString(ca), b.Server, token)
	return h.WriteFile(b.Path, 0o600, "", bytes.NewReader([]byte(config)))
}

var bootstrapKubeconfig = strings.TrimLeft(`
apiVersion: v1
kind: Config
clusters:
- name: muster
  cluster:
    certificate-authority-data: %s
    server: %s
users:
- name: bootstrap
  user:
    token: %s
contexts:
- name: bootstrap
  context: {cluster: muster, user: bootstrap}
current-context: bootstrap
`, "\n")
