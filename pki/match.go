// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Matches says whether the certificate is the one the request asks for: signed
// by this authority, with exactly these names and usages, belonging to this
// key, valid now and not within the last third of its life. nil means it is
// right; otherwise the error lists everything that is wrong, which is also why
// it has to be made anew.
func Matches(certPEM, keyPEM, caPEM []byte, r Request, now time.Time) error {
	cert, err := parseCert(certPEM)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", r.Name, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", r.Name, err)
	}
	ca, err := parseCert(caPEM)
	if err != nil {
		return fmt.Errorf("certificate %s: authority %s: %w", r.Name, r.CA, err)
	}
	var errs []error
	if !samePublic(cert.PublicKey, key.Public()) {
		errs = append(errs, errors.New("key belongs to another certificate"))
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		errs = append(errs, fmt.Errorf("not signed by the authority %s: %w", r.CA, err))
	}
	errs = append(errs, Fresh(certPEM, now))
	errs = append(errs, sameSubject(cert, r)...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("certificate %s: %w", r.Name, err)
	}
	return nil
}

// MatchesCA says whether the authority can go on: it is one, the key is its
// own, and it is valid now. Its age is not judged: replacing an authority is
// decided by people.
func MatchesCA(certPEM, keyPEM []byte, ca CA, now time.Time) error {
	cert, err := parseCert(certPEM)
	if err != nil {
		return fmt.Errorf("authority %s: %w", ca, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("authority %s: %w", ca, err)
	}
	var errs []error
	if !cert.IsCA {
		errs = append(errs, errors.New("certificate is not an authority's"))
	}
	if !samePublic(cert.PublicKey, key.Public()) {
		errs = append(errs, errors.New("key belongs to another certificate"))
	}
	errs = append(errs, validNow(cert, now))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("authority %s: %w", ca, err)
	}
	return nil
}

// Fresh says whether a certificate is valid now and not in the last third of
// its life, which is when it is renewed.
func Fresh(certPEM []byte, now time.Time) error {
	cert, err := parseCert(certPEM)
	if err != nil {
		return err
	}
	if err := validNow(cert, now); err != nil {
		return err
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	if left := cert.NotAfter.Sub(now); left < life/3 {
		return fmt.Errorf("expires %s, %s are left of %s", cert.NotAfter.Format(time.RFC3339), days(left), days(life))
	}
	return nil
}

func validNow(cert *x509.Certificate, now time.Time) error {
	if now.After(cert.NotAfter) {
		return fmt.Errorf("expired %s", cert.NotAfter.Format(time.RFC3339))
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("not valid before %s, this host's clock says %s", cert.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func sameSubject(cert *x509.Certificate, r Request) []error {
	usages, err := r.extKeyUsages()
	if err != nil {
		return []error{err}
	}
	var errs []error
	if cert.Subject.CommonName != r.CommonName {
		errs = append(errs, fmt.Errorf("common name is %q, want %q", cert.Subject.CommonName, r.CommonName))
	}
	if !slices.Equal(sorted(cert.ExtKeyUsage), sorted(usages)) {
		errs = append(errs, fmt.Errorf("usages differ, want %q", r.Usages))
	}
	return append(errs,
		differ("organizations", cert.Subject.Organization, r.Organization),
		differ("DNS names", cert.DNSNames, r.DNSNames),
		differ("addresses", addrStrings(cert.IPAddresses), ipStrings(r.IPs)))
}

func differ(what string, have, want []string) error {
	if slices.Equal(sorted(have), sorted(want)) {
		return nil
	}
	return fmt.Errorf("%s are [%s], want [%s]", what, strings.Join(have, ", "), strings.Join(want, ", "))
}

func sorted[T interface{ ~string | ~int }](in []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(in)))
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func parseCert(certPEM []byte) (*x509.Certificate, error) {
	der, err := block(certPEM, certBlock)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return cert, nil
}

func days(d time.Duration) string {
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
