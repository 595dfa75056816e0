// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"time"
)

// Lifetimes.
const (
	// CAValidity is long because replacing an authority touches every host and
	// every client.
	CAValidity = 10 * 365 * 24 * time.Hour
	// LeafValidity is short enough that renewal is exercised, and the year that
	// Kubernetes operators expect.
	LeafValidity = 365 * 24 * time.Hour
	// Backdate is how far in the past validity starts, for hosts whose clocks
	// run behind the signer's.
	Backdate = 5 * time.Minute
)

// A CA names one of the cluster's certificate authorities.
type CA string

// The authorities. They are apart because trust is: etcd must not accept every
// client of the API server, and the API server must not accept every etcd
// member as a front proxy.
const (
	Kubernetes CA = "kubernetes"
	Etcd       CA = "etcd"
	FrontProxy CA = "front-proxy"
)

// CAs returns every authority, in a fixed order.
func CAs() []CA { return []CA{Kubernetes, Etcd, FrontProxy} }

// CommonName is the subject of the authority's certificate.
func (c CA) CommonName() string {
	switch c {
	case Etcd:
		return "etcd-ca"
	case FrontProxy:
		return "front-proxy-ca"
	default:
		return string(c)
	}
}

// CertFile is the path of the authority's certificate below the PKI directory.
func (c CA) CertFile() string { return c.stem() + ".crt" }

// KeyFile is the path of the authority's key below the PKI directory.
func (c CA) KeyFile() string { return c.stem() + ".key" }

func (c CA) stem() string {
	switch c {
	case Etcd:
		return "etcd/ca"
	case FrontProxy:
		return "front-proxy-ca"
	default:
		return "ca"
	}
}

// A Usage is what a certificate may be used for in a TLS handshake.
type Usage string

// The usages. A kube-apiserver or etcd that dials its equals needs both.
const (
	ServerAuth Usage = "server auth"
	ClientAuth Usage = "client auth"
)

// A Request says what one certificate is for. It is plain data: two requests
// for the same certificate are DeepEqual, and it survives JSON.
type Request struct {
	// Name is the file stem, unique within one authority: "apiserver".
	Name         string        `json:"name"`
	CA           CA            `json:"ca"`
	CommonName   string        `json:"commonName"`
	Organization []string      `json:"organization,omitempty"`
	DNSNames     []string      `json:"dnsNames,omitempty"`
	IPs          []netip.Addr  `json:"ips,omitempty"`
	Usages       []Usage       `json:"usages"`
	Validity     time.Duration `json:"validity"`
}

// CertFile is the path of the certificate below the PKI directory.
func (r Request) CertFile() string { return r.stem() + ".crt" }

// KeyFile is the path of the key below the PKI directory.
func (r Request) KeyFile() string { return r.stem() + ".key" }

func (r Request) stem() string {
	if r.CA == Etcd && r.Name != apiServerEtcdClient {
		return path.Join("etcd", r.Name)
	}
	return r.Name
}

func (r Request) extKeyUsages() ([]x509.ExtKeyUsage, error) {
	var out []x509.ExtKeyUsage
	for _, u := range r.Usages {
		switch u {
		case ServerAuth:
			out = append(out, x509.ExtKeyUsageServerAuth)
		case ClientAuth:
			out = append(out, x509.ExtKeyUsageClientAuth)
		default:
			return nil, fmt.Errorf("certificate %s: usage %q is not one of %q, %q", r.Name, u, ServerAuth, ClientAuth)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("certificate %s: no usage: a certificate without one is good for everything", r.Name)
	}
	return out, nil
}

// server makes the part that all serving certificates share: names and
// addresses sorted and said once, so that the order they were gathered in does
// not make a certificate look wrong.
func server(r Request, names []string, ips []netip.Addr) Request {
	r.DNSNames = slices.Compact(slices.Sorted(slices.Values(names)))
	r.IPs = slices.CompactFunc(slices.SortedFunc(slices.Values(ips), netip.Addr.Compare), func(a, b netip.Addr) bool { return a == b })
	r.Validity = LeafValidity
	return r
}
