// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// record is lab.json: what has to be the same each time a lab is brought up.
type record struct {
	Name     string          `json:"name"`
	Bare     bool            `json:"bare,omitempty"`
	Driver   string          `json:"driver"`
	APIPort  int             `json:"apiPort,omitempty"`
	Machines []machineRecord `json:"machines"` // sorted by address
}

type machineRecord struct {
	Name      string     `json:"name"`
	Roles     []string   `json:"roles"`
	Address   netip.Addr `json:"address"`
	MemoryMiB int        `json:"memoryMiB"`
	Spare     bool       `json:"spare,omitempty"`
	Core      int        `json:"core"`    // number of the one processor it runs on
	SSHPort   int        `json:"sshPort"` // on 127.0.0.1
	HostKey   string     `json:"hostKey"` // its public key, as in known_hosts
}

// stateRoot is the directory that holds one directory per lab.
func stateRoot() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "muster", "lab"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w: set XDG_STATE_HOME or HOME", err)
	}
	return filepath.Join(home, ".local", "state", "muster", "lab"), nil
}

// labDir is where one lab lives.
type labDir string

func dirOf(name string) (labDir, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	root, err := stateRoot()
	return labDir(filepath.Join(root, name)), err
}

func (d labDir) path(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

func (d labDir) machine(name string, parts ...string) string {
	return d.path(append([]string{"machines", name}, parts...)...)
}

// load reads lab.json; fs.ErrNotExist when there is no such lab.
func (d labDir) load() (record, error) {
	var r record
	data, err := os.ReadFile(d.path("lab.json"))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w: remove the lab with \"muster lab down --name %s\"", d.path("lab.json"), err, filepath.Base(string(d)))
	}
	return r, nil
}

func (d labDir) save(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path("lab.json"), err)
	}
	return writeFile(d.path("lab.json"), append(data, '\n'), 0o600)
}

// writeFile replaces a file whole, so that a cut leaves the old or the new.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, mode); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// names lists the labs that have a directory, sorted.
func names() ([]string, error) {
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == nil {
			found = append(found, e.Name())
		}
	}
	slices.Sort(found)
	return found, err
}

// lockRetry is how often a taken lock is tried again; flock(2) itself could
// not be interrupted by a context.
const lockRetry = 200 * time.Millisecond

// lock holds the file exclusively until the returned function is called or the
// process ends. waiting is called once if somebody else holds it.
func lock(ctx context.Context, path string, waiting func()) (func() error, error) {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for told := false; ; told = true {
		unlock, err := tryLock(path)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, held by another muster: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// tryLock gives EWOULDBLOCK when somebody else holds the file.
func tryLock(path string) (func() error, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// Down removes the file while it holds it: a lock on the removed one keeps
	// nobody out.
	mine, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(mine, now) {
		return nil, errors.Join(unix.EWOULDBLOCK, file.Close())
	}
	return file.Close, nil
}
