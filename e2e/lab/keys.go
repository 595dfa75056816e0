// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// keyPair is an ed25519 key in the forms OpenSSH reads.
type keyPair struct {
	private []byte // PEM
	public  string // "ssh-ed25519 AAAA…", no comment, no newline
}

func newKeyPair(comment string) (keyPair, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return keyPair{}, fmt.Errorf("make an SSH key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return keyPair{}, fmt.Errorf("make an SSH key: %w", err)
	}
	return keyPair{private: pem.EncodeToMemory(block), public: keyLine(key)}, nil
}

// keyLine is the key as in authorized_keys, without its newline.
func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// Files of a lab's directory that the SSH client needs.
const (
	clientKeyFile  = "id_ed25519"
	knownHostsFile = "known_hosts"
)

// ensureClientKey gives the lab's client key and makes it once.
func (d labDir) ensureClientKey() (ssh.Signer, error) {
	path := d.path(clientKeyFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var pair keyPair
		if pair, err = newKeyPair("muster lab"); err != nil {
			return nil, err
		}
		if err := writeFile(path+".pub", []byte(pair.public+"\n"), 0o644); err != nil {
			return nil, err
		}
		data, err = pair.private, writeFile(path, pair.private, 0o600)
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return signer, nil
}

// knownHosts renders the machines' keys under both names: the forwarder's
// port, and the address inside the lab.
func knownHosts(machines []machineRecord) ([]byte, error) {
	var out strings.Builder
	for _, m := range machines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.HostKey))
		if err != nil {
			return nil, fmt.Errorf("host key of %s: %w", m.Name, err)
		}
		names := []string{
			knownhosts.Normalize(net.JoinHostPort("127.0.0.1", strconv.Itoa(m.SSHPort))),
			m.Address.String(),
		}
		out.WriteString(knownhosts.Line(names, key) + "\n")
	}
	return []byte(out.String()), nil
}
