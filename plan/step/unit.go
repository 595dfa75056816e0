// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Unit is a systemd unit that is enabled and running on exactly these inputs:
// its unit file, configuration, certificates and program. The hash of what it
// was last started on is kept under /run, so a restart that a cut link made
// us forget is made up for, and a reboot, which restarts everything, forgets
// it rightly.
type Unit struct {
	Name   string
	Inputs []string // paths
	// Leaves are files and folders that the service makes by itself and that
	// belong to the cluster: a reset removes what was not there before.
	Leaves []string `json:",omitempty"`
}

const (
	unitDir  = "/etc/systemd/system/"
	stampDir = "/run/muster/units/"
)

func (u Unit) String() string { return "unit " + u.Name }

// Touches names the unit and what it will leave.
func (u Unit) Touches() []Touch {
	// The link is what enables the unit.
	touches := []Touch{{Kind: TouchUnit, Name: u.Name}, {Kind: TouchPath, Name: unitDir + "multi-user.target.wants/" + u.Name}}
	for _, path := range u.Leaves {
		touches = append(touches, Touch{Kind: TouchPath, Name: path, Whole: true})
	}
	return touches
}

// Done holds when the unit is enabled, active, and was started on these inputs.
// After a reboot there is no stamp; then the boot is taken as the start, and
// the unit is right if no input is newer.
func (u Unit) Done(ctx context.Context, h *Host) (bool, error) {
	state, err := h.Units.State(ctx, u.Name)
	if err != nil || !state.Enabled || !state.Active {
		return false, err
	}
	want, err := u.hash(h)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	got, err := os.ReadFile(h.Path(stampDir + u.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return u.startedAfterInputs(ctx, h)
	}
	return err == nil && string(got) == want, err
}

// startedAfterInputs holds when no input changed after the boot that started
// the unit: then it runs on them although no stamp says so.
func (u Unit) startedAfterInputs(_ context.Context, h *Host) (bool, error) {
	boot, err := bootTime(h)
	if err != nil {
		return false, err
	}
	for _, p := range u.inputs() {
		info, err := os.Stat(h.Path(p))
		if err != nil {
			return false, err
		}
		if info.ModTime().After(boot) {
			return false, nil
		}
	}
	return true, nil
}

// Do restarts the unit and only then writes the stamp: cut in between, the
// next run restarts once more, which is right.
func (u Unit) Do(ctx context.Context, h *Host) error {
	want, err := u.hash(h)
	if err != nil {
		return fmt.Errorf("hash inputs: %w", err)
	}
	if err := h.Units.Restart(ctx, u.Name); err != nil {
		return err
	}
	return h.WriteFile(stampDir+u.Name, 0o644, "", strings.NewReader(want))
}

// Explain gives the unit's state and the last lines it logged.
func (u Unit) Explain(ctx context.Context, h *Host) []string { return explainUnit(ctx, h, u.Name) }

func (u Unit) inputs() []string { return append([]string{unitDir + u.Name}, u.Inputs...) }

func (u Unit) hash(h *Host) (string, error) {
	all := sha256.New()
	for _, p := range u.inputs() {
		s, err := h.Sum(p)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s %s\n", p, s)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func explainUnit(ctx context.Context, h *Host, name string) []string {
	var lines []string
	if state, err := h.Units.State(ctx, name); err == nil {
		lines = append(lines, fmt.Sprintf("%s: enabled=%t active=%t sub=%s", name, state.Enabled, state.Active, state.Sub))
	}
	out, err := h.Exec.Run(ctx, nil, "journalctl", "-u", name, "-n", "5", "-o", "cat", "--no-pager")
	if err != nil {
		return append(lines, fmt.Sprintf("its log cannot be read: %v", err))
	}
	for line := range strings.Lines(string(out)) {
		lines = append(lines, name+": "+strings.TrimRight(line, "\n"))
	}
	return lines
}
