// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// record is lab.json: what has to be the same each time a lab is brought up.
type record struct {
	Name       string          `json:"name"`
	Kubernetes string          `json:"kubernetes"`
	Bare       bool            `json:"bare,omitempty"`
	DualStack  bool            `json:"dualStack,omitempty"`
	Driver     string          `json:"driver"`
	APIPort    int             `json:"apiPort,omitempty"`
	Machines   []machineRecord `json:"machines"` // sorted by address
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
