// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// file is one file of a machine or of the root image, owned by root.
type file struct {
	path string // below /, without a leading slash
	mode int64
	data string
}

// seed gives the files that tell one machine from another. They are unpacked
// at its first boot, before systemd starts.
func seed(name, machineID, authorizedKey string, host keyPair, address, gateway netip.Addr) []file {
	return []file{
		{"etc/hostname", 0o644, name + "\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n" + address.String() + " " + name + "\n"},
		// Nothing answers there, at once. Without the file no pod gets a sandbox.
		{"etc/resolv.conf", 0o644, "nameserver " + gateway.String() + "\n"},
		{"etc/machine-id", 0o444, machineID + "\n"},
		{"etc/ssh/ssh_host_ed25519_key", 0o600, string(host.private)},
		{"etc/ssh/ssh_host_ed25519_key.pub", 0o644, host.public + "\n"},
		{"root/.ssh/authorized_keys", 0o600, authorizedKey + "\n"},
	}
}

// archive packs files with their directories. The directories' modes are those
// of the image, except .ssh, which sshd wants closed.
func archive(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if strings.Contains(f.path, "/.ssh/") {
			dir := f.path[:strings.LastIndexByte(f.path, '/')+1]
			if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o700, ModTime: time.Unix(0, 0)}); err != nil {
				return nil, fmt.Errorf("pack %s: %w", dir, err)
			}
		}
		header := &tar.Header{Name: f.path, Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := w.Write([]byte(f.data)); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return out.Bytes(), nil
}

// newMachineID makes an identity as machine-id(5) describes it.
func newMachineID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never returns an error since Go 1.24
	return hex.EncodeToString(id[:])
}
