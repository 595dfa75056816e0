// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// PEM block types.
const (
	certBlock = "CERTIFICATE"
	csrBlock  = "CERTIFICATE REQUEST"
	keyBlock  = "PRIVATE KEY" // PKCS#8
	pubBlock  = "PUBLIC KEY"  // PKIX
)

// NewKey makes a key. P-256 is what every TLS peer in a cluster supports, and
// it takes microseconds where RSA takes a good part of a second on a small
// machine.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make ECDSA key: %w", err)
	}
	return key, nil
}

// EncodeKey gives the key as PKCS#8 PEM. Whoever writes it uses mode 0600.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// EncodePublicKey gives the public half as PKIX PEM, the form that
// kube-apiserver's --service-account-key-file takes.
func EncodePublicKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pubBlock, Bytes: der}), nil
}

// ParseKey reads what EncodeKey wrote.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	der, err := block(keyPEM, keyBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("parse private key: %T cannot sign", parsed)
	}
	return key, nil
}

// NewServiceAccountKey makes the pair that signs and verifies service account
// tokens. kube-apiserver takes ECDSA and signs ES256 tokens with it
// (k8s.io/kubernetes/pkg/serviceaccount/jwt.go, signerFromECDSAPrivateKey).
func NewServiceAccountKey() (pubPEM, keyPEM []byte, err error) {
	key, err := NewKey()
	if err != nil {
		return nil, nil, err
	}
	if keyPEM, err = EncodeKey(key); err != nil {
		return nil, nil, err
	}
	if pubPEM, err = EncodePublicKey(key); err != nil {
		return nil, nil, err
	}
	return pubPEM, keyPEM, nil
}

// NewCA makes an authority: a self-signed certificate and its key.
func NewCA(commonName string, now time.Time, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	key, err := NewKey()
	if err != nil {
		return nil, nil, err
	}
	template, err := template(now, validity)
	if err != nil {
		return nil, nil, err
	}
	template.Subject = pkix.Name{CommonName: commonName}
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.BasicConstraintsValid = true
	template.IsCA = true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make authority %s: %w", commonName, err)
	}
	if keyPEM, err = EncodeKey(key); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), keyPEM, nil
}

// CSR asks for the certificate of the request, with the key that stays here.
func CSR(key crypto.Signer, r Request) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     subject(r),
		DNSNames:    r.DNSNames,
		IPAddresses: netIPs(r.IPs),
	}, key)
	if err != nil {
		return nil, fmt.Errorf("ask for certificate %s: %w", r.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: csrBlock, Bytes: der}), nil
}

// Sign answers a CSR. Names, usages and lifetime come from allowed, never from
// the CSR; a CSR that asks for more is refused rather than trimmed, because
// somebody meant it.
func Sign(caCertPEM, caKeyPEM, csrPEM []byte, allowed Request, now time.Time) ([]byte, error) {
	ca, err := parseCert(caCertPEM)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: authority %s: %w", allowed.Name, allowed.CA, err)
	}
	caKey, err := ParseKey(caKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: authority %s: %w", allowed.Name, allowed.CA, err)
	}
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", allowed.Name, err)
	}
	if err := within(csr, allowed); err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", allowed.Name, err)
	}
	leaf, err := leafTemplate(allowed, now)
	if err != nil {
		return nil, err
	}
	if leaf.NotAfter.After(ca.NotAfter) {
		// A leaf that outlives its authority fails on a day nobody watches.
		leaf.NotAfter = ca.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, csr.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s by %s: %w", allowed.Name, allowed.CA, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), nil
}

func leafTemplate(r Request, now time.Time) (*x509.Certificate, error) {
	usages, err := r.extKeyUsages()
	if err != nil {
		return nil, err
	}
	leaf, err := template(now, r.Validity)
	if err != nil {
		return nil, err
	}
	leaf.Subject = subject(r)
	leaf.DNSNames = r.DNSNames
	leaf.IPAddresses = netIPs(r.IPs)
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = usages
	leaf.BasicConstraintsValid = true
	return leaf, nil
}

func template(now time.Time, validity time.Duration) (*x509.Certificate, error) {
	if validity <= 0 {
		return nil, fmt.Errorf("make certificate: validity is %v, want more than nothing", validity)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), // RFC 5280 wants it positive
		NotBefore:    now.Add(-Backdate).UTC(),
		NotAfter:     now.Add(validity).UTC(),
	}, nil
}

func parseCSR(csrPEM []byte) (*x509.CertificateRequest, error) {
	der, err := block(csrPEM, csrBlock)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request is not signed by its own key: %w", err)
	}
	return csr, nil
}

// within says what the CSR asks for that the request does not allow.
func within(csr *x509.CertificateRequest, allowed Request) error {
	var errs []error
	if csr.Subject.CommonName != allowed.CommonName {
		errs = append(errs, fmt.Errorf("asks for common name %q, allowed is %q", csr.Subject.CommonName, allowed.CommonName))
	}
	errs = append(errs,
		extra("organizations", csr.Subject.Organization, allowed.Organization),
		extra("DNS names", csr.DNSNames, allowed.DNSNames),
		extra("addresses", addrStrings(csr.IPAddresses), ipStrings(allowed.IPs)))
	if len(csr.EmailAddresses) > 0 || len(csr.URIs) > 0 {
		errs = append(errs, errors.New("asks for mail addresses or URIs, none are ever allowed"))
	}
	return errors.Join(errs...)
}

func extra(what string, have, allowed []string) error {
	var more []string
	for _, s := range have {
		if !slices.Contains(allowed, s) {
			more = append(more, s)
		}
	}
	if len(more) == 0 {
		return nil
	}
	return fmt.Errorf("asks for %s %s beyond the allowed %s", what, strings.Join(more, ", "), strings.Join(allowed, ", "))
}

func subject(r Request) pkix.Name {
	return pkix.Name{CommonName: r.CommonName, Organization: r.Organization}
}

func netIPs(addrs []netip.Addr) []net.IP {
	out := make([]net.IP, len(addrs))
	for i, a := range addrs {
		out[i] = net.IP(a.AsSlice())
	}
	return out
}

func ipStrings(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.Unmap().String()
	}
	return out
}

func addrStrings(ips []net.IP) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}

func block(data []byte, want string) ([]byte, error) {
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, fmt.Errorf("no PEM block found, want %q", want)
	}
	if b.Type != want {
		return nil, fmt.Errorf("PEM block is %q, want %q", b.Type, want)
	}
	return b.Bytes, nil
}
