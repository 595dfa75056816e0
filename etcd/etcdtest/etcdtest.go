// SPDX-License-Identifier: Apache-2.0

// Package etcdtest makes configurations of members that can really run, on
// loopback and with certificates of their own, for tests.
package etcdtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/pki"
)

// CA is an authority in a directory of the test.
type CA struct {
	dir       string
	cert, key []byte
}

// NewCA makes one.
func NewCA(t testing.TB) CA {
	t.Helper()
	cert, key, err := pki.NewCA(pki.Etcd.CommonName(), time.Now(), pki.CAValidity)
	if err != nil {
		t.Fatal(err)
	}
	ca := CA{dir: t.TempDir(), cert: cert, key: key}
	write(t, ca.file(), cert)
	return ca
}

func (ca CA) file() string { return filepath.Join(ca.dir, "ca.crt") }

// Issue makes a certificate and the files of it, below a directory per owner.
func (ca CA) Issue(t testing.TB, owner string, r pki.Request) etcd.TLS {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.CSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Sign(ca.cert, ca.key, csr, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(ca.dir, owner, r.Name)
	out := etcd.TLS{Cert: base + ".crt", Key: base + ".key", CA: ca.file()}
	write(t, out.Cert, cert)
	write(t, out.Key, keyPEM)
	return out
}

// Configs are the members of one new cluster.
func Configs(t testing.TB, ca CA, names ...string) []etcd.Config {
	t.Helper()
	var peers []etcd.Peer
	for _, name := range names {
		peers = append(peers, etcd.Peer{Name: name, URL: "https://" + freeAddr(t)})
	}
	var out []etcd.Config
	for i, name := range names {
		peer, client := []string{peers[i].URL}, []string{"https://" + freeAddr(t)}
		out = append(out, etcd.Config{
			Name: name, DataDir: filepath.Join(t.TempDir(), "data"),
			ListenPeerURLs: peer, AdvertisePeerURLs: peer,
			ListenClientURLs: client, AdvertiseClientURLs: client,
			MetricsURLs:    []string{"http://" + freeAddr(t)},
			InitialCluster: peers, InitialToken: fmt.Sprintf("test-%p", &peers[0]), InitialState: etcd.New,
			Peer:      ca.Issue(t, name, pki.EtcdPeer(name)),
			Client:    ca.Issue(t, name, pki.EtcdServer(name)),
			Health:    ca.Issue(t, name, pki.EtcdHealthClient()),
			Heartbeat: etcd.DefaultHeartbeat, Election: etcd.DefaultElection,
			QuotaBytes: 64 << 20, SnapshotCount: etcd.DefaultSnapshotCount,
		})
	}
	return out
}

// freeAddr is a loopback address that was free a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
