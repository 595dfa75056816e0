// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/muster-project/muster/plan/step"
)

// API calls API servers with certificates that lie on this host.
type API struct {
	// Path maps a host path to a real one.
	Path func(string) string

	mu      sync.Mutex
	clients map[step.Credentials]keyedClient
}

// keyedClient is good while the certificate file is the one it was made with:
// the kubelet's is replaced when it rotates.
type keyedClient struct {
	cert string
	*http.Client
}

// Call does one request; see step.API.
func (a *API) Call(ctx context.Context, as step.Credentials, c step.Call) ([]byte, error) {
	client, err := a.client(as)
	if err != nil {
		return nil, err
	}
	resp, err := send(ctx, client, as, c)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.Method, c.Path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &step.StatusError{Code: resp.StatusCode, Message: message(body)}
	}
	return body, nil
}

// Stream does one request whose answer has no end, such as a watch.
func (a *API) Stream(ctx context.Context, as step.Credentials, c step.Call) (io.ReadCloser, error) {
	client, err := a.client(as)
	if err != nil {
		return nil, err
	}
	resp, err := send(ctx, &http.Client{Transport: client.Transport}, as, c)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, errors.Join(&step.StatusError{Code: resp.StatusCode, Message: message(body)}, err)
	}
	return resp.Body, nil
}

func send(ctx context.Context, client *http.Client, as step.Credentials, c step.Call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, as.Server+c.Path, bytes.NewReader(c.Body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if c.ContentType != "" {
		req.Header.Set("Content-Type", c.ContentType)
	}
	return client.Do(req)
}

// message takes the text out of a metav1.Status.
func message(body []byte) string {
	var status struct{ Message string }
	if err := json.Unmarshal(body, &status); err == nil && status.Message != "" {
		return status.Message
	}
	return strings.TrimSpace(string(body))
}

func (a *API) client(as step.Credentials) (*http.Client, error) {
	cert, err := os.ReadFile(a.Path(as.Cert))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.clients[as]; ok && c.cert == string(cert) {
		return c.Client, nil
	}
	transport, err := a.transport(as, cert)
	if err != nil {
		return nil, err
	}
	c := keyedClient{string(cert), &http.Client{Transport: transport, Timeout: 30 * time.Second}}
	if a.clients == nil {
		a.clients = make(map[step.Credentials]keyedClient)
	}
	a.clients[as] = c
	return c.Client, nil
}

func (a *API) transport(as step.Credentials, cert []byte) (*http.Transport, error) {
	key, err := os.ReadFile(a.Path(as.Key))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", as.Cert, as.Key, err)
	}
	ca, err := os.ReadFile(a.Path(as.CA))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: no certificate in it", as.CA)
	}
	return &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   time.Minute,
	}, nil
}
