// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/muster-project/muster/pki"
)

// Host is the machine a step works on, as the agent running there sees it.
type Host struct {
	Root     string // what stands for "/"; a temporary folder in tests
	Units    Units
	Exec     Exec
	Operator Operator
	API      API
	Now      func() time.Time
	// Lookup finds a user by name; nil is user.Lookup.
	Lookup func(name string) (*user.User, error)

	sums    sums
	writing pathLocks
}

// Units is the service manager of the host.
type Units interface {
	// State reports what systemd says of the unit; a unit nobody knows is
	// the zero state, not an error.
	State(ctx context.Context, name string) (UnitState, error)
	// Restart reloads unit files, enables the unit, (re)starts it and waits
	// until it says that it is ready.
	Restart(ctx context.Context, name string) error
	// Remove stops and disables the unit.
	Remove(ctx context.Context, name string) error
}

// UnitState is the part of systemd's knowledge of a unit that steps need.
type UnitState struct {
	Enabled, Active bool
	Sub             string // systemd's SubState: running, failed, auto-restart
}

// Exec runs one program of the host to its end and returns its output.
type Exec interface {
	Run(ctx context.Context, stdin io.Reader, argv ...string) (stdout []byte, err error)
}

// Operator is the muster command at the other end of the connection: it has
// the bundle, and it can reach the host that keeps the CA keys.
type Operator interface {
	// Blob opens a compressed blob of the bundle by its hex SHA-256.
	Blob(ctx context.Context, sum string) (io.ReadCloser, error)
	// Sign has a certificate signed where the CA's key lives.
	Sign(ctx context.Context, req pki.Request, csr []byte) (cert []byte, err error)
	// Authority returns the certificate of a CA, PEM.
	Authority(ctx context.Context, ca pki.CA) ([]byte, error)
	// Token makes a short-lived bootstrap token for one node.
	Token(ctx context.Context, node string) (string, error)
}

// API calls the Kubernetes API server.
type API interface {
	// Call does one request and returns the body of a 2xx answer; any other
	// answer is a *StatusError.
	Call(ctx context.Context, as Credentials, c Call) ([]byte, error)
}

// Call is one request to the API server.
type Call struct {
	Method, Path, ContentType string
	Body                      []byte
}

// Credentials are files of the host that prove who calls.
type Credentials struct {
	Server        string // https://host:port
	CA, Cert, Key string // paths
}

// Path maps an absolute path of the host below Root.
func (h *Host) Path(p string) string { return filepath.Join(h.Root, p) }

// User looks a user up; false means that the host surely has none of the name.
func (h *Host) User(name string) (u *user.User, known bool, err error) {
	lookup := h.Lookup
	if lookup == nil {
		lookup = user.Lookup
	}
	u, err = lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return nil, false, nil
	}
	return u, err == nil, err
}

// pathLocks let one task at a time write a path: two may make the same file,
// and a temporary name is one per path.
type pathLocks struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (p *pathLocks) lock(path string) (unlock func()) {
	p.mu.Lock()
	if p.locks == nil {
		p.locks = make(map[string]*sync.Mutex)
	}
	one, ok := p.locks[path]
	if !ok {
		one = new(sync.Mutex)
		p.locks[path] = one
	}
	p.mu.Unlock()
	one.Lock()
	return one.Unlock
}

// sums remembers file hashes: the multi-call binary is an input of five units,
// under as many names, and 140 MB long. A file is the same while all of its
// fileID is.
type sums struct {
	mu    sync.Mutex
	known map[fileID]string
}

type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func (s *sums) get(id fileID) (hex string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hex, ok = s.known[id]
	return hex, ok
}

func (s *sums) put(id fileID, hex string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[fileID]string)
	}
	s.known[id] = hex
}

func idOf(f *os.File) (fileID, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return fileID{}, err
	}
	return fileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Sum returns the hex SHA-256 of a file of the host.
func (h *Host) Sum(path string) (string, error) {
	f, err := os.Open(h.Path(path))
	if err != nil {
		return "", err
	}
	defer f.Close()
	id, err := idOf(f)
	if err != nil {
		return "", err
	}
	if known, ok := h.sums.get(id); ok {
		return known, nil
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	h.sums.put(id, sum)
	return sum, nil
}

// noteSum remembers the sum of a file that was checked while it was written.
func (h *Host) noteSum(path, sum string) error {
	f, err := os.Open(h.Path(path))
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := idOf(f)
	if err == nil {
		h.sums.put(id, sum)
	}
	return err
}
