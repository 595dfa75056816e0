// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

func networkSamples() []sample {
	var (
		dns   *dnsServer
		web   *httptest.Server
		ready atomic.Bool
	)
	return []sample{
		{
			kind: "resolves",
			make: func(w world) step.Step {
				dns = newDNS(w)
				return step.Resolves{Server: dns.addr(), Name: "kubernetes.default.svc.cluster.local.", Timeout: time.Minute}
			},
			fulfil:  func(world) { dns.known.Store(true) },
			corrupt: map[string]func(world){"unknown name": func(world) { dns.known.Store(false) }},
			silence: func(world) { dns.conn.Close() },
		},
		{
			kind: "answers",
			make: func(w world) step.Step {
				ready.Store(false)
				web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if !ready.Load() {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				}))
				w.T.Cleanup(web.Close)
				return step.Answers{URL: web.URL + "/healthz", Timeout: time.Minute}
			},
			fulfil:  func(world) { ready.Store(true) },
			corrupt: map[string]func(world){"503": func(world) { ready.Store(false) }},
			silence: func(world) { web.Close() },
		},
	}
}

// dnsServer answers every question for an IPv4 address, once it knows.
type dnsServer struct {
	conn  net.PacketConn
	known atomic.Bool
}

func newDNS(w world) *dnsServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(func() { conn.Close() })
	d := &dnsServer{conn: conn}
	go d.serve()
	return d
}

func (d *dnsServer) addr() netip.AddrPort { return d.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (d *dnsServer) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		if answer, err := d.answer(buffer[:n]); err == nil {
			_, _ = d.conn.WriteTo(answer, from)
		}
	}
}

func (d *dnsServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	switch {
	case !d.known.Load():
		m.RCode = dnsmessage.RCodeNameError
	case m.Questions[0].Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 5},
			Body:   &dnsmessage.AResource{A: [4]byte{10, 96, 0, 1}},
		}}
	}
	return m.Pack()
}

// What follows spoils and prepares hosts for the samples.

func must(w world, err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

func writeAs(w world, path, owner, data string) {
	must(w, w.Host.WriteFile(path, 0o640, owner, strings.NewReader(data)))
}

func truncate(w world, path string) {
	must(w, os.Truncate(w.Host.Path(path), int64(len(w.Read(path))/2)))
}

func relink(w world, path, target string) {
	w.Write(path, 0o644, "") // for its parents
	w.Remove(path)
	must(w, os.Symlink(target, w.Host.Path(path)))
}

// otherKey replaces a key by another one.
func otherKey(w world, path string) {
	key, err := pki.NewKey()
	must(w, err)
	text, err := pki.EncodeKey(key)
	must(w, err)
	w.Write(path, 0o600, string(text))
}

// trust writes the certificate of the cluster's CA.
func trust(w world, path string) {
	cert, err := w.Operator.Authority(w.T.Context(), pki.Kubernetes)
	must(w, err)
	w.Write(path, 0o644, string(cert))
}

// certify writes a certificate with its key, both in one file as kubelets do.
func certify(w world, path string, r pki.Request) {
	key, err := pki.NewKey()
	must(w, err)
	csr, err := pki.CSR(key, r)
	must(w, err)
	cert, err := w.Operator.Sign(w.T.Context(), r, csr)
	must(w, err)
	text, err := pki.EncodeKey(key)
	must(w, err)
	w.Write(path, 0o600, string(cert)+string(text))
}
