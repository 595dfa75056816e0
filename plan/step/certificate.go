// SPDX-License-Identifier: Apache-2.0

package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/muster-project/muster/pki"
)

// Authority is a certificate authority whose key lives on this host. An
// existing one is never replaced: everything else was signed by it.
type Authority struct {
	CA                pki.CA
	CertPath, KeyPath string
	Owner             string // of the key
}

func (a Authority) String() string { return fmt.Sprintf("certificate authority %s", a.CA) }

// Touches names both files.
func (a Authority) Touches() []Touch { return paths(a.CertPath, a.KeyPath) }

// Done holds when certificate and key load and belong together.
func (a Authority) Done(_ context.Context, h *Host) (bool, error) {
	right, err := pairRight(h, a.CertPath, a.KeyPath, a.Owner)
	if err != nil || !right {
		return false, err
	}
	pair, err := readAll(h, a.CertPath, a.KeyPath)
	if err != nil || pair == nil {
		return false, err
	}
	if err := pki.MatchesCA(pair[0], pair[1], a.CA, h.Now()); err != nil {
		return false, fmt.Errorf("%s: %w; muster never replaces a CA by itself", a.CertPath, err)
	}
	return true, nil
}

// Do makes the CA. The key is written first: a certificate without its key is
// a CA that lost it, a key alone is one that was never used. If both are there
// only their modes and owners were wrong, and they are put right.
func (a Authority) Do(_ context.Context, h *Host) error {
	pair, err := readAll(h, a.CertPath, a.KeyPath)
	if err != nil {
		return err
	}
	var cert, key []byte
	if pair != nil {
		cert, key = pair[0], pair[1]
	} else if cert, key, err = a.create(h); err != nil {
		return err
	}
	if err := h.WriteFile(a.KeyPath, 0o600, a.Owner, bytes.NewReader(key)); err != nil {
		return err
	}
	return h.WriteFile(a.CertPath, 0o644, "", bytes.NewReader(cert))
}

func (a Authority) create(h *Host) (cert, key []byte, err error) {
	_, err = os.Lstat(h.Path(a.CertPath))
	if err == nil {
		return nil, nil, fmt.Errorf("%s is there and its key %s is not: muster never replaces a CA by itself; put the key back from a backup or another control-plane host",
			a.CertPath, a.KeyPath)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return pki.NewCA(a.CA.CommonName(), h.Now(), pki.CAValidity)
}

// pairRight compares mode and owner of a certificate, which everybody may
// read, and of its key.
func pairRight(h *Host, certPath, keyPath, owner string) (bool, error) {
	right, err := attributesRight(h, keyPath, 0o600, owner)
	if err != nil || !right {
		return false, err
	}
	return attributesRight(h, certPath, 0o644, "")
}

// SigningKey is the key pair that signs service account tokens.
type SigningKey struct{ PrivatePath, PublicPath, Owner string }

func (s SigningKey) String() string   { return "service account key" }
func (s SigningKey) Touches() []Touch { return paths(s.PrivatePath, s.PublicPath) }

// Done holds when both files have their modes and are halves of one key.
func (s SigningKey) Done(_ context.Context, h *Host) (bool, error) {
	right, err := pairRight(h, s.PublicPath, s.PrivatePath, s.Owner)
	if err != nil || !right {
		return false, err
	}
	pair, err := readAll(h, s.PrivatePath, s.PublicPath)
	if err != nil || pair == nil {
		return false, err
	}
	key, err := pki.ParseKey(pair[0])
	if err != nil {
		return false, nil // Do says what is wrong with it
	}
	public, err := pki.EncodePublicKey(key)
	return err == nil && bytes.Equal(public, pair[1]), err
}

// Do makes the pair, or repairs owner and mode of an existing one: tokens in
// use were signed by it.
func (s SigningKey) Do(_ context.Context, h *Host) error {
	private, err := os.ReadFile(h.Path(s.PrivatePath))
	if errors.Is(err, fs.ErrNotExist) {
		_, private, err = pki.NewServiceAccountKey()
	}
	if err != nil {
		return err
	}
	key, err := pki.ParseKey(private)
	if err != nil {
		return fmt.Errorf("%s: %w: tokens in use were signed by it, so it is not made anew; put it back from a backup, or remove it to make them all invalid", s.PrivatePath, err)
	}
	public, err := pki.EncodePublicKey(key)
	if err != nil {
		return fmt.Errorf("%s: %w", s.PrivatePath, err)
	}
	if err := h.WriteFile(s.PrivatePath, 0o600, s.Owner, bytes.NewReader(private)); err != nil {
		return err
	}
	return h.WriteFile(s.PublicPath, 0o644, "", bytes.NewReader(public))
}

// Trust is the certificate of a CA whose key lives elsewhere.
type Trust struct {
	CA   pki.CA
	Path string
}

func (t Trust) String() string   { return fmt.Sprintf("trust %s CA in %s", t.CA, t.Path) }
func (t Trust) Touches() []Touch { return paths(t.Path) }

// Done compares with the CA's own copy.
func (t Trust) Done(ctx context.Context, h *Host) (bool, error) {
	right, err := attributesRight(h, t.Path, 0o644, "")
	if err != nil || !right {
		return false, err
	}
	got, err := os.ReadFile(h.Path(t.Path))
	if err != nil {
		return false, err
	}
	want, err := h.Operator.Authority(ctx, t.CA)
	return err == nil && bytes.Equal(got, want), err
}

// Do fetches the certificate.
func (t Trust) Do(ctx context.Context, h *Host) error {
	cert, err := h.Operator.Authority(ctx, t.CA)
	if err != nil {
		return err
	}
	return h.WriteFile(t.Path, 0o644, "", bytes.NewReader(cert))
}

// Certificate is a leaf certificate. Its key is made on this host and never
// leaves it; a CSR travels to the host that keeps the CA and the certificate
// comes back.
type Certificate struct {
	Request                   pki.Request
	CertPath, KeyPath, CAPath string // CAPath: the CA that must have signed it
	Owner                     string
}

func (c Certificate) String() string   { return "certificate " + c.CertPath }
func (c Certificate) Touches() []Touch { return paths(c.CertPath, c.KeyPath) }

// Done holds when the certificate is signed by the CA, has the wanted names
// and usages, belongs to the key, and is not about to expire.
func (c Certificate) Done(_ context.Context, h *Host) (bool, error) {
	right, err := pairRight(h, c.CertPath, c.KeyPath, c.Owner)
	if err != nil || !right {
		return false, err
	}
	pem, err := readAll(h, c.CertPath, c.KeyPath, c.CAPath)
	if err != nil || pem == nil {
		return false, err
	}
	return pki.Matches(pem[0], pem[1], pem[2], c.Request, h.Now()) == nil, nil
}

// Do makes a new key and has it certified.
func (c Certificate) Do(ctx context.Context, h *Host) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.CSR(key, c.Request)
	if err != nil {
		return err
	}
	cert, err := h.Operator.Sign(ctx, c.Request, csr)
	if err != nil {
		return fmt.Errorf("sign by the %s CA: %w", c.Request.CA, err)
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	if err := h.WriteFile(c.KeyPath, 0o600, c.Owner, bytes.NewReader(private)); err != nil {
		return err
	}
	return h.WriteFile(c.CertPath, 0o644, "", bytes.NewReader(cert))
}

// readAll reads files of the host; nil without an error if one is missing.
func readAll(h *Host, names ...string) ([][]byte, error) {
	all := make([][]byte, len(names))
	for i, name := range names {
		data, err := os.ReadFile(h.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all[i] = data
	}
	return all, nil
}
