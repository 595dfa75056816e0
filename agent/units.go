// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/muster-project/muster/plan/step"
)

// Systemd drives the service manager over its private socket: no program is
// started and no message bus is needed. It connects on first use.
type Systemd struct {
	mu   sync.Mutex
	conn *dbus.Conn
}

func (s *Systemd) connect(ctx context.Context) (*dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	// The connection would end with the context of the call that happens to
	// come first.
	conn, err := dbus.NewSystemdConnectionContext(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("talk to systemd: %w", err)
	}
	s.conn = conn
	return conn, nil
}

// State asks for the unit's enablement and activity.
func (s *Systemd) State(ctx context.Context, name string) (step.UnitState, error) {
	var state step.UnitState
	conn, err := s.connect(ctx)
	if err != nil {
		return state, err
	}
	props, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return state, fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	active, _ := props["ActiveState"].(string)
	state.Active = active == "active"
	state.Sub, _ = props["SubState"].(string)
	// UnitFileState is of the last reload; the link on disk is the truth.
	state.Enabled = enabled(name)
	return state, nil
}

func enabled(name string) bool {
	_, err := os.Lstat("/etc/systemd/system/multi-user.target.wants/" + name)
	return err == nil
}

// Restart makes systemd see the unit file as it is, enables and restarts the
// unit. It returns when the unit's job has ended, which for Type=notify means
// that the program said it is ready.
func (s *Systemd) Restart(ctx context.Context, name string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := s.reloadIfStale(ctx, conn, name); err != nil {
		return err
	}
	if _, _, err := conn.EnableUnitFilesContext(ctx, []string{name}, false, true); err != nil {
		return fmt.Errorf("enable %s: %w", name, err)
	}
	// A unit that failed too often is refused a start until it is forgiven.
	var unknown godbus.Error
	if err := conn.ResetFailedUnitContext(ctx, name); err != nil && !errors.As(err, &unknown) {
		return fmt.Errorf("reset %s: %w", name, err)
	}
	if _, err := conn.RestartUnitContext(ctx, name, "replace", nil); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	state, err := settle(ctx, conn, name)
	if err == nil && state != "active" {
		err = fmt.Errorf("start %s: systemd says it is %s", name, state)
	}
	return err
}

// reloadIfStale reloads all unit files, which costs a fork of every generator,
// only when systemd holds an older version of this one.
func (s *Systemd) reloadIfStale(ctx context.Context, conn *dbus.Conn, name string) error {
	stale, err := conn.GetUnitPropertyContext(ctx, name, "NeedDaemonReload")
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	if need, _ := stale.Value.Value().(bool); !need {
		return nil
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload systemd: %w", err)
	}
	return nil
}

// settleEvery is how often a unit is asked whether its job has ended.
const settleEvery = 50 * time.Millisecond

// settle waits until the unit has no job left and returns its ActiveState.
// systemd also announces the end of jobs by signals, but a wait for a signal
// never ends if the connection was lost in between; asking notices.
func settle(ctx context.Context, conn *dbus.Conn, name string) (string, error) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		props, err := conn.GetUnitPropertiesContext(ctx, name)
		if err != nil {
			return "", fmt.Errorf("ask systemd for %s: %w", name, err)
		}
		// Job is (id, object path); the id is 0 without one.
		job, _ := props["Job"].([]any)
		if len(job) == 2 && job[0] == uint32(0) {
			state, _ := props["ActiveState"].(string)
			return state, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// goodbye is how long a unit that is removed for good may take to stop. The
// API server would wait a minute for requests that nobody is left to make.
const goodbye = 10 * time.Second

func stop(ctx context.Context, conn *dbus.Conn, name string) error {
	if _, err := conn.StopUnitContext(ctx, name, "replace", nil); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	patience, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	_, err := settle(patience, conn, name)
	if err == nil || ctx.Err() != nil || patience.Err() == nil {
		return err
	}
	if err := conn.KillUnitWithTarget(ctx, name, dbus.All, int32(syscall.SIGKILL)); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	_, err = settle(ctx, conn, name)
	return err
}

// Remove stops and disables the unit; one that systemd does not know is gone.
func (s *Systemd) Remove(ctx context.Context, name string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	loaded, err := conn.GetUnitPropertyContext(ctx, name, "LoadState")
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	if loaded.Value.Value() == "loaded" {
		if err := stop(ctx, conn, name); err != nil {
			return err
		}
	}
	if enabled(name) {
		if _, err := conn.DisableUnitFilesContext(ctx, []string{name}, false); err != nil {
			return fmt.Errorf("disable %s: %w", name, err)
		}
	}
	var unknown godbus.Error
	if err := conn.ResetFailedUnitContext(ctx, name); err != nil && !errors.As(err, &unknown) {
		return fmt.Errorf("reset %s: %w", name, err)
	}
	return nil
}

// Reload makes systemd forget units whose files are gone.
func (s *Systemd) Reload(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return conn.ReloadContext(ctx)
}
