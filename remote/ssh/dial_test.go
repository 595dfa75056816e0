// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/remote"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

// try dials and, when that works, proves that commands run.
func (f *fixture) try(t *testing.T, h inventory.Host, o ssh.Options) error {
	t.Helper()
	c, err := ssh.Dial(t.Context(), h, o)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"true"}}); err != nil {
		t.Errorf("run: %v", err)
	}
	return nil
}

func pinned(s *sshtest.Server) string {
	return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(s.HostKeys[0].PublicKey())))
}

// TestHostKeyIsFoundAsOpenSSHWritesIt goes through the forms of known_hosts.
func TestHostKeyIsFoundAsOpenSSHWritesIt(t *testing.T) {
	f := newFixture(t, func(c *sshtest.Config) {
		c.HostKeys = []xssh.Signer{sshtest.NewECDSASigner(t), sshtest.NewSigner(t)}
	})
	ecdsa := strings.TrimSpace(string(xssh.MarshalAuthorizedKey(f.server.HostKeys[0].PublicKey())))
	ed := strings.TrimSpace(string(xssh.MarshalAuthorizedKey(f.server.HostKeys[1].PublicKey())))
	name := knownhosts.Normalize(f.server.Addr)
	for what, text := range map[string]string{
		"[host]:port":             name + " " + ed + "\n",
		"only the other type":     name + " " + ecdsa + "\n", // needs that type to be asked for
		"hashed":                  knownhosts.HashHostname(name) + " " + ed + "\n",
		"among others":            "# comment\n\nother,[10.0.0.1]:2222 " + ecdsa + "\nelse,example.org," + name + " " + ed + " comment\n",
		"pattern":                 fmt.Sprintf("[127.0.0.*]:%d ", f.server.Port()) + ed + "\n",
		"host alone, as OpenSSH":  "127.0.0.1 " + ecdsa + "\n",
		"hashed host alone":       knownhosts.HashHostname("127.0.0.1") + " " + ecdsa + "\n",
		"both types":              name + " " + ecdsa + "\n" + name + " " + ed + "\n",
		"revoked, but of another": "@revoked * " + pinnedOf(t) + "\n" + name + " " + ed + "\n",
	} {
		t.Run(what, func(t *testing.T) {
			f.knows(t, text)
			if err := f.try(t, f.host(), f.options()); err != nil {
				t.Error(err)
			}
		})
	}
}

func pinnedOf(t *testing.T) string {
	return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(sshtest.NewSigner(t).PublicKey())))
}

func TestHostKeyChanged(t *testing.T) {
	f := newFixture(t, nil)
	name := knownhosts.Normalize(f.server.Addr)
	old := sshtest.NewSigner(t).PublicKey()
	other := sshtest.NewECDSASigner(t).PublicKey()
	for what, key := range map[string]xssh.PublicKey{"same type": old, "other type": other} {
		t.Run(what, func(t *testing.T) {
			text := "# first line\n" + knownhosts.HashHostname(name) + " " + string(xssh.MarshalAuthorizedKey(key))
			f.knows(t, text)
			h := f.host()
			h.SSH.FirstContact = inventory.AcceptNew // never for a changed key
			err := f.try(t, h, f.options())
			var changed *ssh.HostKeyChangedError
			if !errors.As(err, &changed) {
				t.Fatalf("got %v; want a HostKeyChangedError", err)
			}
			mustContain(t, err.Error(), f.known+":2", xssh.FingerprintSHA256(key),
				xssh.FingerprintSHA256(f.server.HostKeys[0].PublicKey()), "ssh-keygen -R '"+name+"' -f "+f.known)
			if got, _ := os.ReadFile(f.known); string(got) != text {
				t.Errorf("known_hosts was changed to\n%s", got)
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		f.knows(t, sshtest.KnownHosts(f.server)+"@revoked * "+pinned(f.server)+"\n")
		err := f.try(t, f.host(), f.options())
		var changed *ssh.HostKeyChangedError
		if !errors.As(err, &changed) || !changed.Revoked {
			t.Errorf("got %v; want a revoked key", err)
		}
	})
}

func TestPinnedHostKey(t *testing.T) {
	f := newFixture(t, nil)
	f.knows(t, "127.0.0.1 "+pinnedOf(t)+"\n") // not read
	h := f.host()
	h.SSH.HostKey = pinned(f.server)
	if err := f.try(t, h, f.options()); err != nil {
		t.Error(err)
	}
	h.SSH.HostKey = pinnedOf(t)
	err := f.try(t, h, f.options())
	var changed *ssh.HostKeyChangedError
	if !errors.As(err, &changed) || changed.Where != "the inventory" {
		t.Errorf("got %v; want a HostKeyChangedError", err)
	}
}

func TestFirstContact(t *testing.T) {
	f := newFixture(t, nil)
	if err := os.Remove(f.known); err != nil {
		t.Fatal(err)
	}
	err := f.try(t, f.host(), f.options())
	var unknown *ssh.HostKeyUnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v; want a HostKeyUnknownError", err)
	}
	mustContain(t, err.Error(), xssh.FingerprintSHA256(f.server.HostKeys[0].PublicKey()), f.known, unknown.Line)
	if _, err := os.Stat(f.known); err == nil {
		t.Error("refusing wrote known_hosts")
	}
	f.knows(t, "other "+pinnedOf(t)) // without a newline at its end
	h := f.host()
	h.SSH.FirstContact = inventory.AcceptNew
	var log bytes.Buffer
	o := f.options()
	o.Logf = func(format string, args ...any) { fmt.Fprintf(&log, format, args...) }
	if err := f.try(t, h, o); err != nil {
		t.Fatal(err)
	}
	mustContain(t, log.String(), "first contact", f.known)
	got, err := os.ReadFile(f.known)
	if err != nil || strings.Count(string(got), "\n") != 2 || !strings.HasSuffix(string(got), "\n"+unknown.Line+"\n") {
		t.Errorf("known_hosts is\n%s, %v", got, err)
	}
	if err := f.try(t, f.host(), f.options()); err != nil {
		t.Errorf("the accepted key is not known: %v", err)
	}
}

// TestFirstContactAsOpenSSHReadsIt asks OpenSSH's own tool for the lines written.
func TestFirstContactAsOpenSSHReadsIt(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("no ssh-keygen on this machine to compare with")
	}
	for _, config := range []string{"", "HashKnownHosts yes\n"} {
		f := newFixture(t, nil)
		f.knows(t, "")
		if err := os.WriteFile(filepath.Join(f.home, ".ssh", "config"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		h := f.host()
		h.SSH.FirstContact = inventory.AcceptNew
		if err := f.try(t, h, f.options()); err != nil {
			t.Fatal(err)
		}
		name := knownhosts.Normalize(f.server.Addr)
		out, err := exec.Command(keygen, "-F", name, "-f", f.known).CombinedOutput()
		if err != nil || !strings.Contains(string(out), strings.Fields(pinned(f.server))[1]) {
			t.Errorf("ssh-keygen does not find %s: %v\n%s", name, err, out)
		}
		text, _ := os.ReadFile(f.known)
		if hashed := bytes.HasPrefix(text, []byte("|1|")); hashed != (config != "") {
			t.Errorf("with %q: %s", config, text)
		}
	}
}

func TestHostCertificate(t *testing.T) {
	key := sshtest.NewSigner(t)
	ca, cert := certify(t, xssh.HostCert, key.PublicKey(), "127.0.0.1")
	with, err := xssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *sshtest.Config) { c.HostKeys = []xssh.Signer{with, key} })
	line := func(k xssh.PublicKey) string { return string(xssh.MarshalAuthorizedKey(k)) }
	name := knownhosts.Normalize(f.server.Addr)
	for what, text := range map[string]string{
		"authority":                            "@cert-authority [127.0.0.1]:* " + line(ca) + "@cert-authority " + name + " " + line(ca),
		"plain key beside a foreign authority": "@cert-authority * " + pinnedOf(t) + "\n" + name + " " + line(key.PublicKey()),
		"plain key":                            name + " " + line(key.PublicKey()),
	} {
		f.knows(t, text)
		if err := f.try(t, f.host(), f.options()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.knows(t, "@cert-authority * "+pinnedOf(t)+"\n")
	var unknown *ssh.HostKeyUnknownError
	if err := f.try(t, f.host(), f.options()); !errors.As(err, &unknown) {
		t.Errorf("a foreign authority: %v; want a HostKeyUnknownError", err)
	}
}

func TestUnreachable(t *testing.T) {
	f := newFixture(t, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() {
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	old := sshtest.Start(t, sshtest.Config{Ciphers: []string{xssh.InsecureCipherTripleDESCBC}})
	for _, tc := range []struct {
		host   string
		port   int
		reason ssh.Reason
	}{
		{"127.0.0.1", old.Port(), ssh.TooOld},
		{"127.0.0.1", 1, ssh.Refused},
		{"127.0.0.1", silent.Addr().(*net.TCPAddr).Port, ssh.Timeout},
		{"127.0.0.1", closing.Addr().(*net.TCPAddr).Port, ssh.Closed},
		{"no-such-host.invalid", 22, ssh.NoName},
	} {
		h := f.host()
		h.SSH.Host, h.SSH.Port = tc.host, tc.port
		o := f.options()
		if tc.reason == ssh.Timeout {
			o.Timeout = 300 * time.Millisecond
		}
		var err error
		within(t, 12*time.Second, func() { err = f.try(t, h, o) })
		var un *ssh.UnreachableError
		if !errors.As(err, &un) || un.Reason != tc.reason {
			t.Errorf("%s: got %v; want %s", tc.host, err, tc.reason)
			continue
		}
		mustContain(t, err.Error(), un.Address, string(tc.reason))
	}
}

func TestDialCancelled(t *testing.T) {
	f := newFixture(t, nil)
	f.server.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	within(t, 3*time.Second, func() {
		if _, err := ssh.Dial(ctx, f.host(), f.options()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v; want the context's end", err)
		}
	})
}
