// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Sysctl is a kernel setting as it is now; the file that keeps it over a
// reboot is a File step of its own.
type Sysctl struct {
	Key, Value string
	Optional   bool // a kernel without the key is right as it is
}

func (s Sysctl) String() string { return fmt.Sprintf("sysctl %s=%s", s.Key, s.Value) }

// Touches names the key.
func (s Sysctl) Touches() []Touch { return []Touch{{Kind: TouchSysctl, Name: s.Key}} }

// SysctlPath is the file below /proc/sys of a dotted key.
func SysctlPath(key string) string { return "/proc/sys/" + strings.ReplaceAll(key, ".", "/") }

// Done compares the value, white space folded as the kernel prints it.
func (s Sysctl) Done(_ context.Context, h *Host) (bool, error) {
	got, err := os.ReadFile(h.Path(SysctlPath(s.Key)))
	if errors.Is(err, fs.ErrNotExist) {
		return s.Optional, nil // or its module is not loaded yet
	}
	return err == nil && strings.Join(strings.Fields(string(got)), " ") == s.Value, err
}

// Do writes the value.
func (s Sysctl) Do(_ context.Context, h *Host) error {
	return os.WriteFile(h.Path(SysctlPath(s.Key)), []byte(s.Value), 0o644)
}

// Module is a kernel feature that may be a module or built in. Probe is a file
// that exists once the feature is there, optionally with ":word" that the file
// must hold.
type Module struct{ Name, Probe string }

func (m Module) String() string { return "kernel module " + m.Name }

// Touches nothing: a loaded module harms nobody and others may use it by now.
func (m Module) Touches() []Touch { return nil }

// Done asks the probe, which also answers for built-in features.
func (m Module) Done(_ context.Context, h *Host) (bool, error) {
	path, word, _ := strings.Cut(m.Probe, ":")
	got, err := os.ReadFile(h.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && strings.Contains(string(got), word), err
}

// Do loads the module.
func (m Module) Do(ctx context.Context, h *Host) error {
	if _, err := h.Exec.Run(ctx, nil, "modprobe", m.Name); err != nil {
		return fmt.Errorf("%w: the kernel has neither a module %s nor the feature built in; install a kernel that has it", err, m.Name)
	}
	return nil
}

// User is a system user that services run as, without shell and home.
type User struct{ Name string }

func (u User) String() string { return "user " + u.Name }

// Touches names the user.
func (u User) Touches() []Touch { return []Touch{{Kind: TouchUser, Name: u.Name}} }

// Done holds when the name is known.
func (u User) Done(_ context.Context, h *Host) (bool, error) {
	_, known, err := h.User(u.Name)
	return known, err
}

// Do makes the user and a group of the same name.
func (u User) Do(ctx context.Context, h *Host) error {
	if _, known, err := h.User(u.Name); known || err != nil {
		return err
	}
	_, err := h.Exec.Run(ctx, nil, "useradd", "--system", "--user-group", "--no-create-home",
		"--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", u.Name)
	return err
}

// bootTime reads when the kernel started (btime of /proc/stat, seconds).
func bootTime(h *Host) (time.Time, error) {
	stat, err := os.ReadFile(h.Path("/proc/stat"))
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(stat)) {
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64)
			return time.Unix(n, 0), err
		}
	}
	return time.Time{}, errors.New("/proc/stat: no btime")
}
