// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// login is one try to log in to one machine: the keys to offer, in order, and
// what became of each.
type login struct {
	mu       sync.Mutex
	attempts []*Attempt
	signers  []xssh.Signer
	allowed  []string // methods the machine takes
	begun    bool     // the machine answered a request to log in
}

// prepare collects the keys. Keys that are written down come first, because a
// machine hangs up after a few wrong ones (MaxAuthTries).
func prepare(ctx context.Context, h hop, o Options) (*login, io.Closer) {
	l := &login{}
	keys, conn := l.agentKeys(ctx, h, o)
	if h.named {
		l.files(h, keys)
		l.agent(h, keys)
	} else {
		l.agent(h, keys)
		l.files(h, keys)
	}
	return l, conn
}

// agentKeys asks the agent for its keys. The connection must stay open while
// they are used.
func (l *login) agentKeys(ctx context.Context, h hop, o Options) ([]xssh.Signer, io.Closer) {
	if !h.agent || o.AgentSocket == "" {
		return nil, io.NopCloser(nil)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", o.AgentSocket)
	if err != nil {
		l.note("agent", fmt.Sprintf("cannot be asked: %v", err))
		return nil, io.NopCloser(nil)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // an agent may wait for its user
	keys, err := agent.NewClient(conn).Signers()
	if err != nil {
		l.note("agent", fmt.Sprintf("cannot be asked: %v", err))
	}
	return keys, closer(func() error { stop(); return conn.Close() })
}

type closer func() error

func (c closer) Close() error { return c() }

// agent offers the agent's keys, unless files offered them already or the
// configuration says that only files count.
func (l *login) agent(h hop, keys []xssh.Signer) {
	if h.onlyKeys {
		return
	}
	for _, k := range keys {
		if !l.has(k.PublicKey()) {
			l.offer("agent key "+xssh.FingerprintSHA256(k.PublicKey()), k)
		}
	}
}

func (l *login) files(h hop, agentKeys []xssh.Signer) {
	for _, path := range h.keys {
		what := "key " + path
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && !h.named {
			continue // one of the usual names; nobody said it exists
		}
		if err != nil {
			l.closed(what, path, nil, agentKeys, "cannot be read: "+cause(err))
			continue
		}
		signer, err := xssh.ParsePrivateKey(data)
		var locked *xssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			l.closed(what, path, locked.PublicKey, agentKeys,
				fmt.Sprintf("needs a passphrase and the agent does not have it (run `ssh-add %s`)", path))
		case err != nil:
			why := fmt.Sprintf("is not a private key: %v", err)
			public, _, _, _, err := xssh.ParseAuthorizedKey(data)
			if err == nil {
				why = "is a public key whose private half the agent does not have"
			}
			l.closed(what, path, public, agentKeys, why)
		default:
			l.certified(what, path, signer)
		}
	}
}

// certified offers a key, before it with the certificate that OpenSSH looks for
// beside it.
func (l *login) certified(what, path string, signer xssh.Signer) {
	if data, err := os.ReadFile(path + "-cert.pub"); err == nil {
		public, _, _, _, err := xssh.ParseAuthorizedKey(data)
		cert, ok := public.(*xssh.Certificate)
		if err != nil || !ok {
			l.note(what+"-cert.pub", "is not a certificate")
		} else if with, err := xssh.NewCertSigner(cert, signer); err != nil {
			l.note(what+"-cert.pub", fmt.Sprintf("does not fit the key: %v", err))
		} else {
			l.offer(what+"-cert.pub", with)
		}
	}
	if !l.has(signer.PublicKey()) {
		l.offer(what, signer)
	}
}

// closed handles a key file that does not open: the agent may have the key, if
// the public half tells which one it is.
func (l *login) closed(what, path string, public xssh.PublicKey, agentKeys []xssh.Signer, why string) {
	if public == nil {
		if data, err := os.ReadFile(path + ".pub"); err == nil {
			public, _, _, _, _ = xssh.ParseAuthorizedKey(data) // nil when unreadable
		}
	}
	for _, k := range agentKeys {
		if public != nil && bytes.Equal(k.PublicKey().Marshal(), public.Marshal()) {
			if !l.has(public) {
				l.offer(what+" (from the agent)", k)
			}
			return
		}
	}
	l.note(what, why)
}

func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func (l *login) note(method, outcome string) *Attempt {
	a := &Attempt{Method: method, Outcome: outcome}
	l.attempts = append(l.attempts, a)
	return a
}

func (l *login) has(key xssh.PublicKey) bool {
	for _, s := range l.signers {
		if bytes.Equal(s.PublicKey().Marshal(), key.Marshal()) {
			return true
		}
	}
	return false
}

// offer puts a key in the row. Its outcome is what stands when the machine
// hangs up before the key's turn.
func (l *login) offer(method string, s xssh.Signer) {
	a := l.note(method, "not tried: the machine hung up before")
	as, ok := s.(xssh.AlgorithmSigner)
	if !ok {
		as = plainSigner{s}
	}
	l.signers = append(l.signers, &witness{AlgorithmSigner: as, login: l, attempt: a})
}

// methods are what the handshake tries.
func (l *login) methods() []xssh.AuthMethod {
	return []xssh.AuthMethod{xssh.PublicKeysCallback(func() ([]xssh.Signer, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range l.signers {
			s.(*witness).live = true
		}
		return l.signers, nil
	})}
}

// choose is called after each answer to a request to log in, first that to
// "none". It only listens.
func (l *login) choose(c *xssh.ClientAuthContext) (xssh.AuthMethod, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun, l.allowed = true, c.AllowedMethods
	return nil, nil
}

func (l *login) error(h hop, err error) *AuthError {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &AuthError{User: h.user, Address: h.address(), Allowed: l.allowed, Err: err}
	for _, a := range l.attempts {
		out.Attempts = append(out.Attempts, *a)
	}
	return out
}

func (l *login) refused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// witness sees how far the handshake got with a key: it looks at the public key
// to offer it, and asks for a signature only when the machine would take it.
type witness struct {
	xssh.AlgorithmSigner
	login   *login
	attempt *Attempt
	live    bool // the handshake has begun; before, only we look at it
}

func (w *witness) PublicKey() xssh.PublicKey {
	w.outcome("rejected by the machine")
	return w.AlgorithmSigner.PublicKey()
}

func (w *witness) Sign(rand io.Reader, data []byte) (*xssh.Signature, error) {
	return w.SignWithAlgorithm(rand, data, "")
}

func (w *witness) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*xssh.Signature, error) {
	w.outcome("known to the machine, but its signature was refused")
	sig, err := w.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
	if err != nil {
		w.outcome(fmt.Sprintf("did not sign: %v", err))
	}
	return sig, err
}

func (w *witness) outcome(text string) {
	w.login.mu.Lock()
	defer w.login.mu.Unlock()
	if w.live {
		w.attempt.Outcome = text
	}
}

// plainSigner gives keys that sign in one way only the method that names it.
type plainSigner struct{ xssh.Signer }

func (p plainSigner) SignWithAlgorithm(rand io.Reader, data []byte, _ string) (*xssh.Signature, error) {
	return p.Sign(rand, data)
}
