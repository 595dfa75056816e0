// SPDX-License-Identifier: Apache-2.0

package sshtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Config is what a server is like. The zero value lets nobody in.
type Config struct {
	HostKeys   []ssh.Signer    // one fresh ed25519 key when empty
	Authorized []ssh.PublicKey // keys that may log in, under any name
	MaxTries   int             // logins per connection before it hangs up; 0 is the library's 6
	Password   bool            // take passwords instead of keys, and refuse all
	Exec       Exec            // answers commands; nil refuses all
	Dir        string          // where SFTP starts, as a home directory; empty: no SFTP
	NoForward  bool            // refuse to forward, as AllowTcpForwarding no
	Version    string          // what it says it is; the library's name when empty
	Ciphers    []string        // the only ciphers it knows; the library's when empty
}

// Server is a running server.
type Server struct {
	Addr     string // host:port
	HostKeys []ssh.Signer

	config   Config
	listener net.Listener
	work     sync.WaitGroup

	mu       sync.Mutex
	commands []string
	conns    map[*faultyConn]bool
	faults   Faults
	thaw     chan struct{} // closed when the server no longer stands still
	closed   bool
}

// Start starts a server that ends with the test.
func Start(t testing.TB, c Config) *Server {
	t.Helper()
	if len(c.HostKeys) == 0 {
		c.HostKeys = []ssh.Signer{NewSigner(t)}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), HostKeys: c.HostKeys, config: c, listener: l, conns: map[*faultyConn]bool{}, thaw: make(chan struct{})}
	close(s.thaw)
	s.work.Add(1)
	go s.accept()
	t.Cleanup(s.Close)
	return s
}

// Port is the port it listens on.
func (s *Server) Port() int {
	_, port, err := net.SplitHostPort(s.Addr)
	n, errNumber := strconv.Atoi(port)
	if err != nil || errNumber != nil {
		panic("sshtest: a listener without a port: " + s.Addr) // net.Listen gives one
	}
	return n
}

// Commands gives the command lines that were asked for, in order.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// Close ends the server and all its connections, and waits for their ends.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.listener.Close()
	s.Cut()
	s.work.Wait()
}

func (s *Server) accept() {
	defer s.work.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		f := s.wrap(c)
		s.work.Add(1)
		go func() {
			defer s.work.Done()
			defer f.Close()
			s.serve(f)
		}()
	}
}

func (s *Server) serverConfig() *ssh.ServerConfig {
	c := &ssh.ServerConfig{MaxAuthTries: s.config.MaxTries, ServerVersion: s.config.Version, Config: ssh.Config{Ciphers: s.config.Ciphers}}
	for _, k := range s.config.HostKeys {
		c.AddHostKey(k)
	}
	refused := errors.New("refused")
	if s.config.Password {
		c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, refused }
		return c
	}
	c.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		for _, k := range s.config.Authorized {
			if bytes.Equal(k.Marshal(), key.Marshal()) {
				return nil, nil
			}
		}
		return nil, refused
	}
	return c
}

func (s *Server) serve(c net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(c, s.serverConfig())
	if err != nil {
		return
	}
	defer conn.Close()
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		ssh.DiscardRequests(requests) // answers keepalives with a no, as OpenSSH does
	}()
	for ch := range channels {
		s.work.Add(1)
		go func() {
			defer s.work.Done()
			switch ch.ChannelType() {
			case "session":
				s.session(conn.User(), ch)
			case "direct-tcpip":
				s.forward(ch)
			default:
				_ = ch.Reject(ssh.UnknownChannelType, "not here")
			}
		}()
	}
}

// forward is a bastion's part: a stream to wherever the client asks.
func (s *Server) forward(ch ssh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil || s.config.NoForward {
		_ = ch.Reject(ssh.Prohibited, "forwarding is off")
		return
	}
	out, err := net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		_ = ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	in, requests, err := ch.Accept()
	if err != nil {
		out.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
	in.Close()
}

func (s *Server) subsystem(name string, ch ssh.Channel) bool {
	if name != "sftp" || s.config.Dir == "" {
		return false
	}
	server, err := sftp.NewServer(ch, sftp.WithServerWorkingDirectory(s.config.Dir))
	if err != nil {
		return false
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		_ = server.Serve() // it ends with the channel
		ch.Close()
	}()
	return true
}
