// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// PKIDir is where a control-plane host keeps the CAs.
const PKIDir = "/etc/kubernetes/pki"

// sign certifies a CSR with a CA of this host. Names and usages come from the
// operator's request, which was made from the inventory, not from the CSR.
func (a *Agent) sign(r protocol.Request) ([]byte, error) {
	if r.Certificate == nil {
		return nil, errors.New("sign: no request")
	}
	ca := r.Certificate.CA
	cert, err := a.authority(string(ca))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(a.Host.Path(filepath.Join(PKIDir, ca.KeyFile())))
	if err != nil {
		return nil, fmt.Errorf("the %s CA's key: %w", ca, err)
	}
	return pki.Sign(cert, key, r.Data, *r.Certificate, a.Host.Now())
}

func (a *Agent) authority(name string) ([]byte, error) {
	if !slices.Contains(pki.CAs(), pki.CA(name)) {
		return nil, fmt.Errorf("no CA is called %q", name)
	}
	cert, err := os.ReadFile(a.Host.Path(filepath.Join(PKIDir, pki.CA(name).CertFile())))
	if err != nil {
		return nil, fmt.Errorf("the %s CA's certificate: %w; the cert phase makes it", name, err)
	}
	return cert, nil
}

// TokenLife is how long a bootstrap token is good: long enough for a slow
// host to start its kubelet, short enough to be worthless in a backup.
const TokenLife = 15 * time.Minute

// token makes a bootstrap token (KEP-130: a Secret of type
// bootstrap.kubernetes.io/token in kube-system) for one node.
func (a *Agent) token(ctx context.Context, r protocol.Request) (string, error) {
	if r.As == nil {
		return "", errors.New("token: no credentials named")
	}
	id, err := random(6)
	if err != nil {
		return "", err
	}
	secret, err := random(16)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(tokenSecret(id, secret, r.Name, a.Host.Now().Add(TokenLife)))
	if err != nil {
		return "", err
	}
	_, err = a.Host.API.Call(ctx, *r.As, step.Call{
		Method: http.MethodPost, Path: "/api/v1/namespaces/kube-system/secrets",
		ContentType: "application/json", Body: body,
	})
	if err != nil {
		return "", fmt.Errorf("create bootstrap token: %w", err)
	}
	return id + "." + secret, nil
}

type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Type       string            `json:"type"`
	StringData map[string]string `json:"stringData"`
}

func tokenSecret(id, key, node string, expires time.Time) secret {
	return secret{
		APIVersion: "v1", Kind: "Secret", Type: "bootstrap.kubernetes.io/token",
		Metadata: map[string]string{"name": "bootstrap-token-" + id, "namespace": "kube-system"},
		StringData: map[string]string{
			"description":                    "joins node " + node,
			"token-id":                       id,
			"token-secret":                   key,
			"expiration":                     expires.UTC().Format(time.RFC3339),
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              pki.GroupBootstrappers,
		},
	}
}

// random returns n characters of the alphabet that token ids and secrets have.
func random(n int) (string, error) {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", err
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out), nil
}
