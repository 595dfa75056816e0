// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

func TestLoginNamesEveryKeyTried(t *testing.T) {
	f := newFixture(t, nil)
	wrong := sshtest.NewKey(t, filepath.Join(f.home, "wrong"), "")
	locked := sshtest.NewKey(t, filepath.Join(f.home, "locked"), "secret")
	text := filepath.Join(f.home, "text")
	if err := os.WriteFile(text, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := f.host()
	h.SSH.Keys = []string{wrong.Path, locked.Path, text, "~/missing"}
	h.SSH.Agent = true
	o := f.options()
	o.AgentSocket = filepath.Join(f.home, "no-agent")
	err := f.try(t, h, o)
	var auth *ssh.AuthError
	if !errors.As(err, &auth) {
		t.Fatalf("got %v; want an AuthError", err)
	}
	want := map[string]string{
		"agent": "cannot be asked", "key " + wrong.Path: "rejected by the machine", "key " + locked.Path: "needs a passphrase",
		"key " + text: "is not a private key", "key " + filepath.Join(f.home, "missing"): "cannot be read: no such file",
	}
	for _, a := range auth.Attempts {
		if !strings.Contains(a.Outcome, want[a.Method]) || want[a.Method] == "" {
			t.Errorf("%s: %s; want %q", a.Method, a.Outcome, want[a.Method])
		}
		delete(want, a.Method)
	}
	if len(want) > 0 {
		t.Errorf("not mentioned: %v", want)
	}
	mustContain(t, err.Error(), "log in to "+f.server.Addr+" as root", "ssh-add "+locked.Path, "the machine takes publickey", "authorized_keys")
}

func TestLoginWhereOnlyPasswordsAreTaken(t *testing.T) {
	f := newFixture(t, func(c *sshtest.Config) { c.Password = true })
	err := f.try(t, f.host(), f.options())
	var auth *ssh.AuthError
	if !errors.As(err, &auth) {
		t.Fatalf("got %v; want an AuthError", err)
	}
	mustContain(t, err.Error(), "the machine takes password", "not tried")
}

func TestLoginThatGivesUpEarly(t *testing.T) {
	f := newFixture(t, func(c *sshtest.Config) { c.MaxTries = 2 })
	h := f.host()
	h.SSH.Keys = nil
	for i := range 4 {
		h.SSH.Keys = append(h.SSH.Keys, sshtest.NewKey(t, filepath.Join(f.home, fmt.Sprint("k", i)), "").Path)
	}
	err := f.try(t, h, f.options())
	var auth *ssh.AuthError
	if !errors.As(err, &auth) {
		t.Fatalf("got %v; want an AuthError", err)
	}
	if first, last := auth.Attempts[0].Outcome, auth.Attempts[3].Outcome; !strings.Contains(first, "rejected") || !strings.Contains(last, "not tried") {
		t.Errorf("first key: %s; last key: %s", first, last)
	}
}

// startAgent serves keys on a socket, as ssh-agent does.
func startAgent(t *testing.T, keys ...sshtest.Key) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k.Private}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); c.Close() }()
		}
	}()
	return path
}

func TestLoginByAgent(t *testing.T) {
	f := newFixture(t, nil)
	locked := sshtest.NewKey(t, filepath.Join(f.home, ".ssh", "id_ed25519"), "secret")
	other := sshtest.NewKey(t, filepath.Join(f.home, "other"), "")
	f.server = sshtest.Start(t, sshtest.Config{Authorized: []xssh.PublicKey{locked.Public}, Exec: sshtest.Shell()})
	f.knows(t, sshtest.KnownHosts(f.server))
	o := f.options()
	o.AgentSocket = startAgent(t, other, locked)
	h := f.host()
	h.SSH.Agent = true
	public := filepath.Join(f.home, "card.pub") // as of a key that never leaves its card
	if err := os.WriteFile(public, xssh.MarshalAuthorizedKey(locked.Public), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, keys := range map[string][]string{
		"any of the agent's": nil, "the locked file's": {locked.Path}, "its public half's": {public}, "that beside a missing file": {filepath.Join(f.home, "card")},
	} {
		h.SSH.Keys = keys
		if err := f.try(t, h, o); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.SSH.Agent = false
	h.SSH.Keys = []string{locked.Path, public}
	err := f.try(t, h, o)
	if err == nil {
		t.Fatal("the agent was asked although the inventory says no")
	}
	mustContain(t, err.Error(), "needs a passphrase", public+": is a public key")
}

// certify has a fresh authority sign a key.
func certify(t *testing.T, kind uint32, key xssh.PublicKey, principal string) (ca xssh.PublicKey, cert *xssh.Certificate) {
	t.Helper()
	authority := sshtest.NewSigner(t)
	cert = &xssh.Certificate{Key: key, CertType: kind, ValidPrincipals: []string{principal}, ValidBefore: xssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return authority.PublicKey(), cert
}

func TestLoginByCertificate(t *testing.T) {
	f := newFixture(t, nil)
	_, cert := certify(t, xssh.UserCert, f.key.Public, "root")
	f.server = sshtest.Start(t, sshtest.Config{Authorized: []xssh.PublicKey{cert}, Exec: sshtest.Shell()})
	f.knows(t, sshtest.KnownHosts(f.server))
	if err := f.try(t, f.host(), f.options()); err == nil {
		t.Fatal("logged in without the certificate")
	}
	beside := f.key.Path + "-cert.pub"
	for text, want := range map[string]string{"nonsense": "is not a certificate", string(xssh.MarshalAuthorizedKey(cert)): ""} {
		if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch err := f.try(t, f.host(), f.options()); {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && err == nil:
			t.Errorf("logged in with %q", text)
		case want != "":
			mustContain(t, err.Error(), beside, want)
		}
	}
}
