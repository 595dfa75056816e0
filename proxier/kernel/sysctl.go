// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctl is one setting.
type sysctl struct {
	name     string // with slashes, as below /proc/sys
	value    string
	optional bool // not every kernel has it
}

// settings are those the data plane needs.
func settings() []sysctl {
	return []sysctl{
		// Masquerade works on conntrack entries, and IPVS makes none by itself.
		{name: "net/ipv4/vs/conntrack", value: "1"},
		// A UDP client never closes: its flow moves when the real server is
		// deleted, instead of being dropped until it falls silent.
		{name: "net/ipv4/vs/expire_nodest_conn", value: "1"},
		// Affinity must not hold clients at a real server of weight 0.
		{name: "net/ipv4/vs/expire_quiescent_template", value: "1"},
		// Since 5.9 reuse of a client port is right, and 0 is wrong: it keeps
		// sending to pods that are gone.
		{name: "net/ipv4/vs/conn_reuse_mode", value: "1"},
		// Rate estimation walks all virtual servers with soft interrupts off
		// and adds milliseconds to packets where there are many.
		{name: "net/ipv4/vs/run_estimation", value: "0", optional: true},
		{name: "net/ipv4/ip_forward", value: "1"},
	}
}

// sysctls sets and restores settings.
type sysctls struct {
	root string // /proc/sys
	file string // what was before
}

func newSysctls(stateDir string) sysctls {
	return sysctls{root: "/proc/sys", file: filepath.Join(stateDir, "sysctls.json")}
}

// change is one setting that was changed.
type change struct {
	Was string `json:"was"`
	Set string `json:"set"`
}

// set puts the settings in force. What was before is written down first, so
// that it is not lost if the process dies in between.
func (s sysctls) set(list []sysctl) error {
	changed, err := s.load()
	if err != nil {
		return err
	}
	var todo []sysctl
	for _, c := range list {
		now, err := s.read(c.name)
		if c.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w: is the kernel built with CONFIG_IP_VS_NFCT?", c.name, err)
		}
		if now == c.value {
			continue
		}
		todo = append(todo, c)
		if old, ok := changed[c.name]; ok {
			changed[c.name] = change{Was: old.Was, Set: c.value}
		} else {
			changed[c.name] = change{Was: now, Set: c.value}
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := s.save(changed); err != nil {
		return err
	}
	for _, c := range todo {
		if err := s.write(c.name, c.value); err != nil {
			return err
		}
	}
	return nil
}

// restore puts back what was before, except where somebody else changed the
// setting since.
func (s sysctls) restore() error {
	changed, err := s.load()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		now, err := s.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its module was unloaded, and the setting with it
		}
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w", name, err)
		}
		if now != changed[name].Set {
			continue
		}
		if err := s.write(name, changed[name].Was); err != nil {
			return err
		}
	}
	if err := os.Remove(s.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the old settings: %w", err)
	}
	os.Remove(filepath.Dir(s.file)) // stays if somebody else keeps things there
	return nil
}

func (s sysctls) read(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(s.root, name))
	return strings.TrimSpace(string(data)), err
}

func (s sysctls) write(name, value string) error {
	if err := os.WriteFile(filepath.Join(s.root, name), []byte(value+"\n"), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
	}
	return nil
}

func (s sysctls) load() (map[string]change, error) {
	changed := map[string]change{}
	data, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return changed, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &changed)
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings from before in %s: %w; delete the file if nothing is to be restored", s.file, err)
	}
	return changed, nil
}

// save replaces the file as a whole.
func (s sysctls) save(changed map[string]change) error {
	data, err := json.MarshalIndent(changed, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(s.file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the old settings: %w", err)
	}
	temp, err := os.CreateTemp(dir, ".sysctls-*")
	if err != nil {
		return fmt.Errorf("keep the old settings: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already if all went well
	_, err = temp.Write(append(data, '\n'))
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("keep the old settings in %s: %w", temp.Name(), err)
	}
	return wrap("keep the old settings", os.Rename(temp.Name(), s.file))
}
