// SPDX-License-Identifier: Apache-2.0

package sshtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/inventory"
)

// NewSigner makes an ed25519 key.
func NewSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return signer(t, key, err)
}

// NewECDSASigner makes a key of another type.
func NewECDSASigner(t testing.TB) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return signer(t, key, err)
}

func signer(t testing.TB, key crypto.Signer, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Key is a client's key and the file it is in.
type Key struct {
	Path    string
	Public  ssh.PublicKey
	Private ed25519.PrivateKey
}

// NewKey writes a fresh private key, locked when there is a passphrase.
func NewKey(t testing.TB, path, passphrase string) Key {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Path: path, Public: key, Private: private}
}

// KnownHosts is the known_hosts text of the servers, one line for each host key.
func KnownHosts(servers ...*Server) string {
	text := ""
	for _, s := range servers {
		for _, k := range s.HostKeys {
			text += knownhosts.Line([]string{s.Addr}, k.PublicKey()) + "\n"
		}
	}
	return text
}

// SSH is an inventory's ssh section that leads to the server as root.
func (s *Server) SSH(key Key, knownHosts string) inventory.SSH {
	return inventory.SSH{
		Host: "127.0.0.1", Port: s.Port(), User: "root", Keys: []string{key.Path},
		KnownHosts: []string{knownHosts}, FirstContact: inventory.Refuse,
	}
}
