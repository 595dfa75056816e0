// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

// chain is two bastions before the fixture's server, all known.
func (f *fixture) chain(t *testing.T) (outer, inner *sshtest.Server, h inventory.Host) {
	t.Helper()
	bastion := sshtest.Config{Authorized: []xssh.PublicKey{f.key.Public}}
	outer, inner = sshtest.Start(t, bastion), sshtest.Start(t, bastion)
	f.knows(t, sshtest.KnownHosts(f.server, outer, inner))
	h = f.host()
	first, second := outer.SSH(f.key, f.known), inner.SSH(f.key, f.known)
	second.Bastion = &first
	h.SSH.Bastion = &second
	return outer, inner, h
}

func TestBastionChain(t *testing.T) {
	f := newFixture(t, nil)
	_, _, h := f.chain(t)
	c, err := ssh.Dial(t.Context(), h, f.options())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := content(1 << 20)
	dest := filepath.Join(t.TempDir(), "f")
	if err := c.Upload(t.Context(), dest, 0o755, bytes.NewReader(data), int64(len(data)), sum(data)); err != nil {
		t.Fatal(err)
	}
	checkFile(t, dest, data, 0o755)
}

func TestBastionFaultsNameTheHop(t *testing.T) {
	f := newFixture(t, nil)
	outer, inner, h := f.chain(t)
	t.Run("unknown key", func(t *testing.T) {
		f.knows(t, sshtest.KnownHosts(f.server, outer))
		var unknown *ssh.HostKeyUnknownError
		if err := f.try(t, h, f.options()); !errors.As(err, &unknown) || unknown.Address != inner.Addr {
			t.Errorf("got %v; want the unknown key of %s", err, inner.Addr)
		}
		f.knows(t, sshtest.KnownHosts(f.server, outer, inner))
	})
	t.Run("changed key of the host", func(t *testing.T) {
		f.knows(t, sshtest.KnownHosts(inner, outer)+knownhosts.Line([]string{f.server.Addr}, sshtest.NewSigner(t).PublicKey())+"\n")
		var changed *ssh.HostKeyChangedError
		if err := f.try(t, h, f.options()); !errors.As(err, &changed) || changed.Address != f.server.Addr {
			t.Errorf("got %v; want the changed key of %s", err, f.server.Addr)
		}
		f.knows(t, sshtest.KnownHosts(f.server, outer, inner))
	})
	t.Run("host down", func(t *testing.T) {
		down := h
		down.SSH.Port = 1
		var un *ssh.UnreachableError
		if err := f.try(t, down, f.options()); !errors.As(err, &un) || un.Hop || un.Bastion != inner.Addr || un.Reason != ssh.Refused {
			t.Errorf("got %v; want refused through %s", err, inner.Addr)
		}
	})
	t.Run("bastion down", func(t *testing.T) {
		inner.Close()
		var un *ssh.UnreachableError
		err := f.try(t, h, f.options())
		if !errors.As(err, &un) || !un.Hop || un.Address != inner.Addr || un.Bastion != outer.Addr {
			t.Fatalf("got %v; want bastion %s", err, inner.Addr)
		}
		mustContain(t, err.Error(), "bastion "+inner.Addr+" through bastion "+outer.Addr)
	})
	t.Run("forwarding forbidden", func(t *testing.T) {
		closed := sshtest.Start(t, sshtest.Config{Authorized: []xssh.PublicKey{f.key.Public}, NoForward: true})
		f.knows(t, sshtest.KnownHosts(f.server, closed))
		h := f.host()
		b := closed.SSH(f.key, f.known)
		h.SSH.Bastion = &b
		var un *ssh.UnreachableError
		if err := f.try(t, h, f.options()); !errors.As(err, &un) || un.Reason != ssh.NoForward {
			t.Errorf("got %v; want that forwarding is forbidden", err)
		}
	})
}

func TestBastionThatDies(t *testing.T) {
	f := newFixture(t, nil)
	outer, _, h := f.chain(t)
	c, err := ssh.Dial(t.Context(), h, f.options())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	outer.Cut()
	var lost *ssh.LostError
	data := content(8 << 20)
	err = c.Upload(t.Context(), filepath.Join(t.TempDir(), "f"), 0o755, bytes.NewReader(data), int64(len(data)), sum(data))
	if !errors.As(err, &lost) {
		t.Errorf("got %v; want a LostError", err)
	}
}

// TestClientConfiguration fills in from ~/.ssh/config what the inventory leaves
// open, and nothing else.
func TestClientConfiguration(t *testing.T) {
	f := newFixture(t, nil)
	outer, inner, _ := f.chain(t)
	config := fmt.Sprintf(`
Host m1
	HostName 127.0.0.1
	Port %d
	IdentityFile %%d/key
	ProxyJump in, out
Host in out
	HostName 127.0.0.1
	IdentityFile ~/key
Host in
	Port %d
Host out
	Port %d
Host loop
	ProxyJump loop
Host proxied
	ProxyCommand nc %%h %%p
Host *
	User nobody
`, f.server.Port(), inner.Port(), outer.Port())
	if err := os.WriteFile(filepath.Join(f.home, ".ssh", "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(alias string) inventory.Host {
		return inventory.Host{Name: alias, SSH: inventory.SSH{Host: alias, User: "root", FirstContact: inventory.Refuse}}
	}
	if err := f.try(t, open("m1"), f.options()); err != nil {
		t.Fatal(err)
	}
	// The inventory's word counts more.
	h := open("m1")
	h.SSH.Port = 1
	if err := f.try(t, h, f.options()); err == nil {
		t.Error("the configuration overruled the inventory's port")
	}
	for alias, want := range map[string]string{"loop": "bastions in a row", "proxied": "ProxyCommand"} {
		err := f.try(t, open(alias), f.options())
		if err == nil {
			t.Fatalf("%s: no error", alias)
		}
		mustContain(t, err.Error(), want, alias)
	}
	h = open("m1")
	h.SSH.User = ""
	c, err := ssh.Dial(t.Context(), h, f.options())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestClientConfigurationWithErrors(t *testing.T) {
	f := newFixture(t, nil)
	path := filepath.Join(f.home, ".ssh", "config")
	for text, want := range map[string]string{"Host m1\n\tPort many\n": `"many" is not a port`, "Match exec true\n": path} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := f.try(t, inventory.Host{SSH: inventory.SSH{Host: "m1"}}, f.options())
		if err == nil {
			t.Fatalf("%q: no error", text)
		}
		mustContain(t, err.Error(), want)
	}
}
