// SPDX-License-Identifier: Apache-2.0

package approver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent/approver"
)

const user = "system:node:w-1"

var (
	nodes   = []string{"system:nodes", "system:authenticated"}
	serving = []string{"digital signature", "server auth"}
)

// asks makes a request as a kubelet does (certificate_manager.go), changed by
// change.
func asks(t *testing.T, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	r := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: user, Organization: []string{"system:nodes"}},
		DNSNames: []string{"w-1"}, IPAddresses: []net.IP{net.ParseIP("10.0.0.21")},
	}
	if change != nil {
		change(r)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func joined() map[string]string {
	return map[string]string{"w-1": "10.0.0.21,fd00::21", "w-2": "10.0.0.22"}
}

func TestCheckApproves(t *testing.T) {
	for name, change := range map[string]func(*x509.CertificateRequest){
		"name and address": nil,
		"name":             func(r *x509.CertificateRequest) { r.IPAddresses = nil },
		"address":          func(r *x509.CertificateRequest) { r.DNSNames = nil },
		"both families":    func(r *x509.CertificateRequest) { r.IPAddresses = append(r.IPAddresses, net.ParseIP("fd00:0::0021")) },
	} {
		if err := approver.Check(user, nodes, serving, asks(t, change), joined()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	withRSA := append([]string{"key encipherment"}, serving...)
	if err := approver.Check(user, nodes, withRSA, asks(t, nil), joined()); err != nil {
		t.Errorf("RSA: %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	right := func(t *testing.T) []byte { return asks(t, nil) }
	changed := func(change func(*x509.CertificateRequest)) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return asks(t, change) }
	}
	cases := []struct {
		name           string
		user           string
		groups, usages []string
		request        func(*testing.T) []byte
		want           string
	}{
		{"a person", "anna", nodes, serving, right, "only nodes may ask for it"},
		{"a service account", "system:serviceaccount:kube-system:x", nodes, serving, right, "only nodes may ask for it"},
		{"not in the group", user, []string{"system:authenticated"}, serving, right, "only nodes may ask for it"},
		{"a bootstrap token", "system:bootstrap:abcdef", []string{"system:bootstrappers:muster"}, serving, right, "only nodes may ask for it"},
		{"not joined", "system:node:w-9", nodes, serving, right, "muster has not joined a node w-9"},
		{"empty name", "system:node:", nodes, serving, right, "muster has not joined a node "},
		{"client usage", user, nodes, append([]string{"client auth"}, serving...), right, `usage "client auth" is not for serving`},
		{"not PEM", user, nodes, serving, func(*testing.T) []byte { return []byte("x") }, "it is not a PEM certificate request"},
		{"other PEM", user, nodes, serving, func(t *testing.T) []byte {
			return bytes.ReplaceAll(asks(t, nil), []byte("CERTIFICATE REQUEST"), []byte("CERTIFICATE"))
		}, "it is not a PEM certificate request"},
		{"not a request", user, nodes, serving, func(*testing.T) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}})
		}, "asn1"},
		{"signature of another key", user, nodes, serving, forged, "x509: ECDSA verification failure"},
		{"subject of another node", user, nodes, serving,
			changed(func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:w-2" }), "is not the node's"},
		{"organization more", user, nodes, serving,
			changed(func(r *x509.CertificateRequest) {
				r.Subject.Organization = append(r.Subject.Organization, "system:masters")
			}), "is not the node's"},
		{"no organization", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.Subject.Organization = nil }), "is not the node's"},
		{"e-mail", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), "e-mail addresses and URIs"},
		{"URI", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), "e-mail addresses and URIs"},
		{"no names", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.DNSNames, r.IPAddresses = nil, nil }), "it names no host"},
		{"another name", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.DNSNames = []string{"w-1", "kubernetes"} }), "DNS name kubernetes is not the node's"},
		{"a longer name", user, nodes, serving, changed(func(r *x509.CertificateRequest) { r.DNSNames = []string{"w-1.example"} }), "DNS name w-1.example is not the node's"},
		{"address of another node", user, nodes, serving,
			changed(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.ParseIP("10.0.0.22")} }), "address 10.0.0.22 is not the node's (10.0.0.21, fd00::21)"},
		{"part of an address", user, nodes, serving,
			changed(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.ParseIP("10.0.0.2")} }), "address 10.0.0.2 is not"},
		{"loopback", user, nodes, serving,
			changed(func(r *x509.CertificateRequest) { r.IPAddresses = append(r.IPAddresses, net.IPv4(127, 0, 0, 1)) }), "address 127.0.0.1 is not"},
	}
	for _, c := range cases {
		err := approver.Check(c.user, c.groups, c.usages, c.request(t), joined())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// forged is a request with one bit of its signature flipped.
func forged(t *testing.T) []byte {
	block, _ := pem.Decode(asks(t, nil))
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// No request makes the check panic, and none but a right one passes.
func FuzzCheck(f *testing.F) {
	f.Add("w-1", []byte("x"))
	f.Add("", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30, 0x03, 1, 1, 1}}))
	f.Fuzz(func(t *testing.T, node string, request []byte) {
		if err := approver.Check("system:node:"+node, nodes, serving, request, map[string]string{node: "10.0.0.21"}); err == nil {
			t.Errorf("%q passes for %q", request, node)
		}
	})
}
