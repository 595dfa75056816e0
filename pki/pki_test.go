// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/pki"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// authority is a CA with what a host gets from it.
type authority struct{ cert, key []byte }

func newCA(t *testing.T, ca pki.CA) authority {
	t.Helper()
	cert, key, err := pki.NewCA(ca.CommonName(), now, pki.CAValidity)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func newKey(t *testing.T) (crypto.Signer, []byte) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, keyPEM
}

func (a authority) issue(t *testing.T, key crypto.Signer, r pki.Request) []byte {
	t.Helper()
	csr, err := pki.CSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Sign(a.cert, a.key, csr, r, now)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func addrs(s ...string) []netip.Addr {
	out := make([]netip.Addr, len(s))
	for i := range s {
		out[i] = netip.MustParseAddr(s[i])
	}
	return out
}

func catalogue() []pki.Request {
	return []pki.Request{
		pki.APIServer(append(pki.APIServerNames("cluster.local"), "cp-1"), addrs("10.0.0.11", "10.96.0.1", "fd00::1")),
		pki.APIServerKubeletClient(), pki.APIServerEtcdClient(), pki.FrontProxyClient(),
		pki.ControllerManager(), pki.Scheduler(), pki.Admin("kubernetes-admin"), pki.SuperAdmin(),
		pki.EtcdServer("cp-1", addrs("10.0.0.11")...), pki.EtcdPeer("cp-1", addrs("10.0.0.11")...), pki.EtcdHealthClient(),
		pki.Proxier("w-1"), pki.Flannel("w-1"), pki.Approver(),
	}
}

func TestCatalogueIssuedAndMatching(t *testing.T) {
	cas := map[pki.CA]authority{}
	for _, ca := range pki.CAs() {
		cas[ca] = newCA(t, ca)
	}
	seen := map[string]string{}
	for _, r := range catalogue() {
		key, keyPEM := newKey(t)
		ca := cas[r.CA]
		cert := ca.issue(t, key, r)
		if err := pki.Matches(cert, keyPEM, ca.cert, r, now); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		verify(t, r, cert, ca.cert)
		if other := seen[r.CertFile()]; other != "" {
			t.Errorf("%s and %s share the file %s", r.Name, other, r.CertFile())
		}
		seen[r.CertFile()] = r.Name
	}
}

// verify asks the standard library, as a TLS peer would.
func verify(t *testing.T, r pki.Request, certPEM, caPEM []byte) {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPEM)
	for usage, name := range map[x509.ExtKeyUsage]pki.Usage{x509.ExtKeyUsageServerAuth: pki.ServerAuth, x509.ExtKeyUsageClientAuth: pki.ClientAuth} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		want := false
		for _, u := range r.Usages {
			want = want || u == name
		}
		if (err == nil) != want {
			t.Errorf("%s: good for %s: %v, want %v", r.Name, name, err == nil, want)
		}
	}
	for _, host := range append(r.DNSNames, ipsOf(r)...) {
		if err := cert.VerifyHostname(host); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	if got, want := cert.NotBefore, now.Add(-pki.Backdate); !got.Equal(want) {
		t.Errorf("%s: valid from %v, want %v", r.Name, got, want)
	}
	if cert.SerialNumber.BitLen() < 64 {
		t.Errorf("%s: serial number has %d bits, want a random one of 128", r.Name, cert.SerialNumber.BitLen())
	}
	if cert.IsCA {
		t.Errorf("%s: is an authority", r.Name)
	}
}

func ipsOf(r pki.Request) []string {
	var out []string
	for _, a := range r.IPs {
		out = append(out, a.String())
	}
	return out
}

func TestMatchesSaysWhatIsWrong(t *testing.T) {
	ca, other := newCA(t, pki.Kubernetes), newCA(t, pki.Kubernetes)
	r := pki.APIServer([]string{"cp-1"}, addrs("10.0.0.11"))
	key, keyPEM := newKey(t)
	_, strangeKey := newKey(t)
	cert := ca.issue(t, key, r)
	change := func(f func(*pki.Request)) pki.Request {
		out := pki.APIServer([]string{"cp-1"}, addrs("10.0.0.11"))
		f(&out)
		return out
	}
	for name, test := range map[string]struct {
		key, ca []byte
		r       pki.Request
		at      time.Time
		want    string
	}{
		"right":              {keyPEM, ca.cert, r, now, ""},
		"another key":        {strangeKey, ca.cert, r, now, "key belongs to another certificate"},
		"another authority":  {keyPEM, other.cert, r, now, "not signed by the authority kubernetes"},
		"another name":       {keyPEM, ca.cert, change(func(r *pki.Request) { r.DNSNames = append(r.DNSNames, "cp-2") }), now, "DNS names are [cp-1], want [cp-1, cp-2]"},
		"an address more":    {keyPEM, ca.cert, change(func(r *pki.Request) { r.IPs = r.IPs[:1] }), now, "want [10.0.0.11]"},
		"another user":       {keyPEM, ca.cert, change(func(r *pki.Request) { r.CommonName = "x" }), now, `common name is "kube-apiserver", want "x"`},
		"another group":      {keyPEM, ca.cert, change(func(r *pki.Request) { r.Organization = []string{"g"} }), now, "organizations are [], want [g]"},
		"another usage":      {keyPEM, ca.cert, change(func(r *pki.Request) { r.Usages = append(r.Usages, pki.ClientAuth) }), now, "usages differ"},
		"just fresh":         {keyPEM, ca.cert, r, now.Add(pki.LeafValidity*2/3 - time.Hour), ""},
		"in the last third":  {keyPEM, ca.cert, r, now.Add(pki.LeafValidity*2/3 + time.Hour), "days are left"},
		"expired":            {keyPEM, ca.cert, r, now.Add(pki.LeafValidity + time.Hour), "expired"},
		"clock far behind":   {keyPEM, ca.cert, r, now.Add(-time.Hour), "not valid before"},
		"clock a bit behind": {keyPEM, ca.cert, r, now.Add(-4 * time.Minute), ""},
		"no key":             {nil, ca.cert, r, now, "no PEM block"},
		"certificate as key": {cert, ca.cert, r, now, `PEM block is "CERTIFICATE"`},
	} {
		err := pki.Matches(cert, test.key, test.ca, test.r, test.at)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
	}
}

func TestSignTrustsTheRequestItWasTold(t *testing.T) {
	ca := newCA(t, pki.Kubernetes)
	allowed := pki.APIServer([]string{"cp-1"}, addrs("10.0.0.11"))
	key, keyPEM := newKey(t)
	for name, test := range map[string]struct {
		change func(*pki.Request)
		want   string
	}{
		"more names":     {func(r *pki.Request) { r.DNSNames = append(r.DNSNames, "evil") }, "DNS names evil beyond the allowed cp-1"},
		"more addresses": {func(r *pki.Request) { r.IPs = append(r.IPs, addrs("6.6.6.6")...) }, "addresses 6.6.6.6"},
		"another user":   {func(r *pki.Request) { r.CommonName = "root" }, `common name "root"`},
		"a group":        {func(r *pki.Request) { r.Organization = []string{pki.GroupMasters} }, "organizations system:masters"},
	} {
		asked := pki.APIServer([]string{"cp-1"}, addrs("10.0.0.11"))
		test.change(&asked)
		csr, err := pki.CSR(key, asked)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.Sign(ca.cert, ca.key, csr, allowed, now); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
	}
	// A request for less is given what is allowed: the names come from there.
	asked := allowed
	asked.DNSNames, asked.IPs = nil, nil
	csr, err := pki.CSR(key, asked)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Sign(ca.cert, ca.key, csr, allowed, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.Matches(cert, keyPEM, ca.cert, allowed, now); err != nil {
		t.Error(err)
	}
}

func TestSignRefusesAForgedCSR(t *testing.T) {
	ca := newCA(t, pki.Kubernetes)
	r := pki.Scheduler()
	key, _ := newKey(t)
	csr, err := pki.CSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := pki.Sign(ca.cert, ca.key, pem.EncodeToMemory(block), r, now); err == nil || !strings.Contains(err.Error(), "own key") {
		t.Errorf("got %v", err)
	}
}

func TestSignRefusesNoUsageAndNoValidity(t *testing.T) {
	ca := newCA(t, pki.Kubernetes)
	key, _ := newKey(t)
	for _, change := range []func(*pki.Request){
		func(r *pki.Request) { r.Usages = nil },
		func(r *pki.Request) { r.Usages = []pki.Usage{"any"} },
		func(r *pki.Request) { r.Validity = 0 },
	} {
		r := pki.Scheduler()
		change(&r)
		csr, err := pki.CSR(key, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.Sign(ca.cert, ca.key, csr, r, now); err == nil {
			t.Errorf("%+v was signed", r)
		}
	}
}

func TestLeafDoesNotOutliveItsAuthority(t *testing.T) {
	cert, key, err := pki.NewCA("short", now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := newKey(t)
	leaf := authority{cert, key}.issue(t, signer, pki.Scheduler())
	if err := pki.Fresh(leaf, now.Add(25*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

func TestMatchesCA(t *testing.T) {
	ca, other := newCA(t, pki.Etcd), newCA(t, pki.Etcd)
	if err := pki.MatchesCA(ca.cert, ca.key, pki.Etcd, now.Add(pki.CAValidity-time.Hour)); err != nil {
		t.Errorf("old but valid: %v", err)
	}
	if err := pki.MatchesCA(ca.cert, other.key, pki.Etcd, now); err == nil {
		t.Error("a strange key passed")
	}
	if err := pki.MatchesCA(ca.cert, ca.key, pki.Etcd, now.Add(pki.CAValidity+time.Hour)); err == nil {
		t.Error("an expired authority passed")
	}
	key, keyPEM := newKey(t)
	if err := pki.MatchesCA(ca.issue(t, key, pki.EtcdHealthClient()), keyPEM, pki.Etcd, now); err == nil {
		t.Error("a leaf passed as an authority")
	}
}

func TestRequestsSurviveJSONAndOrder(t *testing.T) {
	for _, r := range catalogue() {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back pki.Request
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, back) {
			t.Errorf("%s: came back as %+v", r.Name, back)
		}
	}
	a := pki.APIServer([]string{"b", "a", "b"}, addrs("10.0.0.2", "10.0.0.1"))
	b := pki.APIServer([]string{"a", "b"}, addrs("10.0.0.1", "10.0.0.2", "127.0.0.1"))
	if !reflect.DeepEqual(a, b) {
		t.Errorf("order or repetition matters:\n%+v\n%+v", a, b)
	}
}

func TestServiceAccountKey(t *testing.T) {
	pub, key, err := pki.NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pub)
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := parsed.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(signer.Public()) {
		t.Error("the public key is not the private key's")
	}
}

func FuzzMatches(f *testing.F) {
	cert, key, err := pki.NewCA("ca", now, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cert, key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte(""))
	f.Fuzz(func(t *testing.T, c, k []byte) {
		// An authority is never the scheduler's certificate, and nothing panics.
		if err := pki.Matches(c, k, cert, pki.Scheduler(), now); err == nil {
			t.Error("matched")
		}
	})
}
