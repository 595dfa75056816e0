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
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctl is one setting.
type sysctl struct {
	name     string // with slashes, as below /proc/sys; or one of ipvsTimeouts
	value    string
	optional bool // not every kernel has it
	atLeast  bool // a greater number is right too
}

// right reports whether a setting need not be changed.
func (c sysctl) right(now string) bool {
	if now == c.value {
		return true
	}
	have, err := strconv.ParseUint(now, 10, 64)
	want, err2 := strconv.ParseUint(c.value, 10, 64)
	return c.atLeast && err == nil && err2 == nil && have >= want
}

// needed are the settings without which the data plane does not work.
func (s sysctls) needed() []sysctl {
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
		{name: "net/ipv4/vs/run_estimation", value: s.estimation(), optional: true},
		{name: "net/ipv4/ip_forward", value: "1"},
	}
}

// forwarding6 lets packets through that are for pods. Where IPv6 is not used
// it stays as it is: a host that forwards no longer listens to router
// advertisements, by which many get their default route.
func forwarding6() []sysctl {
	return []sysctl{{name: "net/ipv6/conf/all/forwarding", value: "1"}}
}

// estimation says whether IPVS shall add up its counters. Before Linux 6.2 it
// does so for all virtual servers in one go with soft interrupts off, which
// holds packets up for milliseconds where there are many. Since then kernel
// threads do it in small parts, and est_nice is there to tune them. Counters
// stand still without it.
func (s sysctls) estimation() string {
	if _, err := s.read("net/ipv4/vs/est_nice"); err != nil {
		return "0"
	}
	return "1"
}

// sysctls sets and restores settings.
type sysctls struct {
	root     string // /proc/sys
	file     string // what was before
	timeouts timeouts
}

// timeouts reads and writes the settings of IPVS that /proc does not show.
type timeouts interface {
	read(name string) (string, error)
	write(name, value string) error
}

func newSysctls(stateDir string) sysctls {
	return sysctls{root: procSys(), file: filepath.Join(stateDir, "sysctls.json"), timeouts: netlinkTimeouts{}}
}

// procSys is where settings are. A container without privileges has /proc/sys
// read-only, and nothing can be mounted over a part of it; its manifest
// mounts the host's /proc/sys/net below /host/proc/sys instead.
func procSys() string {
	const usual, mounted = "/proc/sys", "/host/proc/sys"
	var fs unix.Statfs_t
	if err := unix.Statfs(usual, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return usual
	}
	if _, err := os.Stat(mounted + "/net"); err != nil {
		return usual
	}
	return mounted
}

// change is one setting that was changed.
type change struct {
	Was string `json:"was"`
	Set string `json:"set"`
}

// set puts the settings in force, as many as it can. What was before is
// written down first, so that it is not lost if the process dies in between.
func (s sysctls) set(list []sysctl) error {
	changed, err := s.load()
	if err != nil {
		return err
	}
	todo, faults := s.wrong(list)
	if len(todo) == 0 {
		return faults
	}
	for c, now := range todo {
		if old, ok := changed[c.name]; ok {
			now = old.Was
		}
		changed[c.name] = change{Was: now, Set: c.value}
	}
	if err := s.save(changed); err != nil {
		return err
	}
	for _, c := range list {
		if _, wrong := todo[c]; wrong {
			faults = errors.Join(faults, s.write(c.name, c.value))
		}
	}
	return faults
}

// wrong finds the settings that are not as they should be, and how they are.
func (s sysctls) wrong(list []sysctl) (map[sysctl]string, error) {
	wrong := map[sysctl]string{}
	var faults []error
	for _, c := range list {
		now, err := s.read(c.name)
		switch {
		case c.optional && errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, fmt.Errorf("read sysctl %s: %w: is the kernel built with CONFIG_IP_VS_NFCT?", c.name, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("read sysctl %s: %w", c.name, err))
		case !c.right(now):
			wrong[c] = now
		}
	}
	return wrong, errors.Join(faults...)
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
	if slices.Contains(ipvsTimeouts[:], name) {
		return s.timeouts.read(name)
	}
	data, err := os.ReadFile(filepath.Join(s.root, name))
	return strings.TrimSpace(string(data)), err
}

func (s sysctls) write(name, value string) error {
	if slices.Contains(ipvsTimeouts[:], name) {
		return wrap(fmt.Sprintf("set %s to %ss", name, value), s.timeouts.write(name, value))
	}
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
