// SPDX-License-Identifier: Apache-2.0

package steptest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/muster-project/muster/plan/step"
)

const (
	unitDir  = "/etc/systemd/system/"
	wantsDir = unitDir + "multi-user.target.wants/"
)

// Units is a service manager in memory. That a unit is enabled is a link on
// the host's disk, as with systemd.
type Units struct {
	// Fail, if set, is the answer to every question.
	Fail error
	// Broken units do not start.
	Broken map[string]error
	// Restarts counts the starts of each unit.
	Restarts map[string]int
	// StartedOn is the text of the unit file at each unit's last start.
	StartedOn map[string]string

	world  *World
	active map[string]bool
}

func newUnits(w *World) *Units {
	return &Units{
		world: w, Broken: map[string]error{}, Restarts: map[string]int{}, StartedOn: map[string]string{}, active: map[string]bool{},
	}
}

// Active lists the running units, sorted.
func (u *Units) Active() []string {
	var names []string
	for name, active := range u.active {
		if active {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Stop ends a unit without disabling it, as a crash would.
func (u *Units) Stop(name string) { u.active[name] = false }

// Disable removes the link that starts the unit at boot.
func (u *Units) Disable(name string) { u.world.Remove(wantsDir + name) }

// State says what the unit is doing; see step.Units.
func (u *Units) State(_ context.Context, name string) (step.UnitState, error) {
	if u.Fail != nil {
		return step.UnitState{}, u.Fail
	}
	state := step.UnitState{Enabled: u.world.Exists(wantsDir + name), Active: u.active[name], Sub: "dead"}
	if state.Active {
		state.Sub = "running"
	}
	return state, nil
}

// Restart enables and starts the unit on its file as it is.
func (u *Units) Restart(_ context.Context, name string) error {
	if u.Fail != nil {
		return u.Fail
	}
	text, err := os.ReadFile(u.world.Host.Path(unitDir + name))
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	if err := u.enable(name); err != nil {
		return err
	}
	if err := u.Broken[name]; err != nil {
		u.active[name] = false
		return fmt.Errorf("start %s: %w", name, err)
	}
	u.active[name] = true
	u.Restarts[name]++
	u.StartedOn[name] = string(text)
	return nil
}

func (u *Units) enable(name string) error {
	link := u.world.Host.Path(wantsDir + name)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	err := os.Symlink("../"+name, link)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Remove stops and disables the unit.
func (u *Units) Remove(_ context.Context, name string) error {
	if u.Fail != nil {
		return u.Fail
	}
	u.active[name] = false
	err := os.Remove(u.world.Host.Path(wantsDir + name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// boot starts what is enabled and nothing else.
func (u *Units) boot() {
	u.active = map[string]bool{}
	links, err := os.ReadDir(u.world.Host.Path(wantsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		u.world.T.Fatal(err)
	}
	for _, link := range links {
		u.active[link.Name()] = true
		u.StartedOn[link.Name()] = u.world.Read(unitDir + link.Name())
	}
}
