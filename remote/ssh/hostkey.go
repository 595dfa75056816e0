// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/inventory"
)

// verifier decides whether a machine's key is the right one.
type verifier struct {
	hop    hop
	pinned xssh.PublicKey       // nil without a pin
	lookup xssh.HostKeyCallback // known_hosts
	cas    bool                 // known_hosts names certificate authorities
	logf   func(string, ...any)
	err    error // what check said last, because a handshake error loses its type
}

func newVerifier(h hop, logf func(string, ...any)) (*verifier, error) {
	v := &verifier{hop: h, logf: logf}
	if h.hostKey != "" {
		key, _, _, _, err := xssh.ParseAuthorizedKey([]byte(h.hostKey))
		if err != nil {
			return nil, fmt.Errorf("read the pinned host key of %s: %w", h.address(), err)
		}
		v.pinned = key
		return v, nil
	}
	var files []string
	for _, f := range h.knownHosts {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read known host keys: %w", err)
		}
		v.cas = v.cas || bytes.Contains(data, []byte("@cert-authority"))
		files = append(files, f)
	}
	lookup, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("read known host keys: %w; remove that line", err)
	}
	v.lookup = lookup
	return v, nil
}

// lookupAddress stands in for the address of the TCP connection. Through a
// bastion there is none, and by default OpenSSH goes by the name alone too.
type lookupAddress struct{}

func (lookupAddress) Network() string { return "tcp" }
func (lookupAddress) String() string  { return "0.0.0.0:0" }

// find asks known_hosts for the key: under [host]:port, and then, as OpenSSH
// does, for a match under the host alone.
func (v *verifier) find(key xssh.PublicKey) error {
	err := v.lookup(v.hop.address(), lookupAddress{}, key)
	if cert, ok := key.(*xssh.Certificate); ok && err != nil {
		key = cert.Key // no authority vouches for it: it counts as a plain key
		err = v.lookup(v.hop.address(), lookupAddress{}, key)
	}
	var unknown *knownhosts.KeyError
	if errors.As(err, &unknown) && len(unknown.Want) == 0 && v.hop.port != 22 {
		if v.lookup(net.JoinHostPort(v.hop.host, "22"), lookupAddress{}, key) == nil {
			return nil
		}
	}
	return err
}

// algorithms are all the key types we read, with those first that are known for
// the machine: asked otherwise, it would show a key of another type, which
// looks like a changed one.
func (v *verifier) algorithms() []string {
	var first []string
	for _, key := range v.known() {
		first = append(first, signatureTypes(key.Type())...)
	}
	rest := []string{
		xssh.KeyAlgoED25519, xssh.KeyAlgoECDSA256, xssh.KeyAlgoECDSA384, xssh.KeyAlgoECDSA521, xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256,
	}
	if v.cas && v.pinned == nil {
		first = append([]string{
			xssh.CertAlgoED25519v01, xssh.CertAlgoECDSA256v01, xssh.CertAlgoECDSA384v01, xssh.CertAlgoECDSA521v01,
			xssh.CertAlgoRSASHA512v01, xssh.CertAlgoRSASHA256v01,
		}, first...)
	}
	var out []string
	for _, a := range append(first, rest...) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// signatureTypes: an RSA key signs in two ways that are still sound.
func signatureTypes(keyType string) []string {
	if keyType == xssh.KeyAlgoRSA {
		return []string{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// known gives the keys recorded for the machine. The library only tells them
// when it is shown a key that is not among them.
func (v *verifier) known() []xssh.PublicKey {
	if v.pinned != nil {
		return []xssh.PublicKey{v.pinned}
	}
	nobody, err := xssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var keys []xssh.PublicKey
	for _, port := range []string{v.hop.address(), net.JoinHostPort(v.hop.host, "22")} {
		var mismatch *knownhosts.KeyError
		if errors.As(v.lookup(port, lookupAddress{}, nobody), &mismatch) {
			for _, k := range mismatch.Want {
				keys = append(keys, k.Key)
			}
		}
		if len(keys) > 0 {
			break
		}
	}
	return keys
}

// check is the callback of the handshake.
func (v *verifier) check(_ string, _ net.Addr, key xssh.PublicKey) error {
	v.err = v.verdict(key)
	return v.err
}

func (v *verifier) verdict(key xssh.PublicKey) error {
	if v.pinned != nil {
		if bytes.Equal(v.pinned.Marshal(), key.Marshal()) {
			return nil
		}
		return &HostKeyChangedError{Address: v.hop.address(), Where: "the inventory", Known: fingerprint(v.pinned), Got: fingerprint(key),
			remedies: "if the machine was installed anew, correct its hostKey; if not, somebody may stand in between: stop"}
	}
	err := v.find(key)
	var revoked *knownhosts.RevokedError
	var mismatch *knownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return &HostKeyChangedError{Address: v.hop.address(), Where: place(revoked.Revoked), Got: fingerprint(key), Revoked: true}
	case errors.As(err, &mismatch) && len(mismatch.Want) > 0:
		return v.changed(key, mismatch.Want)
	case errors.As(err, &mismatch):
		return v.firstContact(key)
	}
	return fmt.Errorf("check the host key of %s: %w", v.hop.address(), err)
}

// changed also covers a machine that shows a type nobody has recorded for it:
// taking that as a first contact would let an impostor choose the type.
func (v *verifier) changed(key xssh.PublicKey, want []knownhosts.KnownKey) error {
	old := want[0]
	for _, k := range want {
		if k.Key.Type() == key.Type() {
			old = k
			break
		}
	}
	name := knownhosts.Normalize(v.hop.address())
	return &HostKeyChangedError{Address: v.hop.address(), Where: place(old), Known: fingerprint(old.Key), Got: fingerprint(key),
		remedies: fmt.Sprintf("if the machine was installed anew, run `ssh-keygen -R '%s' -f %s`; if not, somebody may stand in between: stop", name, old.Filename)}
}

func (v *verifier) firstContact(key xssh.PublicKey) error {
	if cert, ok := key.(*xssh.Certificate); ok {
		key = cert.Key
	}
	name := knownhosts.Normalize(v.hop.address())
	if v.hop.hashNames {
		name = knownhosts.HashHostname(name)
	}
	line := name + " " + strings.TrimSpace(string(xssh.MarshalAuthorizedKey(key)))
	file := ""
	if len(v.hop.knownHosts) > 0 {
		file = v.hop.knownHosts[0]
	}
	if v.hop.firstContact != inventory.AcceptNew {
		return &HostKeyUnknownError{Address: v.hop.address(), Fingerprint: fingerprint(key), Line: line, File: file}
	}
	if file == "" {
		return fmt.Errorf("accept the host key of %s: no known_hosts file to write it to; write ssh.knownHosts", v.hop.address())
	}
	if err := appendLine(file, line); err != nil {
		return fmt.Errorf("accept the host key of %s: %w", v.hop.address(), err)
	}
	v.logf("first contact with %s: %s is now in %s", v.hop.address(), fingerprint(key), file)
	return nil
}

// appendLine adds a line with one write, so that several programs may do it at
// once, and closes a last line that somebody left open.
func appendLine(path, line string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	last := []byte{'\n'}
	if info.Size() > 0 {
		if _, err := f.ReadAt(last, info.Size()-1); err != nil {
			return err
		}
	}
	if last[0] != '\n' {
		line = "\n" + line
	}
	_, err = f.WriteString(line + "\n")
	return err
}

func place(k knownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", k.Filename, k.Line) }

func fingerprint(key xssh.PublicKey) string { return key.Type() + " " + xssh.FingerprintSHA256(key) }
