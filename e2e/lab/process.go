// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process names one process for good: a process id alone is given to somebody
// else some time after its process ended.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot (field 22 of /proc/PID/stat)
	Boot  string `json:"boot"`  // kernel.random.boot_id of the boot it was started in
}

// State of a machine.
type State string

// The states; a machine that was never started is stopped.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
)

// identify names the process that now has the id.
func identify(pid int) (Process, error) {
	start, _, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

func readStat(pid int) (start uint64, state byte, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(data))
}

// parseStat takes start time and state from /proc/PID/stat. The second field
// is the program's name in parentheses and may itself hold spaces and
// parentheses, so fields are counted from the last one.
func parseStat(line string) (start uint64, state byte, err error) {
	const stateField, startField = 0, 19 // after the name
	end := strings.LastIndexByte(line, ')')
	fields := strings.Fields(line[end+1:])
	if end < 0 || len(fields) <= startField {
		return 0, 0, fmt.Errorf("stat line %q: too few fields", line)
	}
	start, err = strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("stat line %q: start time: %w", line, err)
	}
	return start, fields[stateField][0], nil
}

// State tells what the process does now. One that ended but was not yet waited
// for by its parent is stopped.
func (p Process) State() (State, error) {
	if p.PID <= 0 {
		return Stopped, nil
	}
	now, err := identify(p.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && now != p {
		return Stopped, nil
	}
	if err != nil {
		return "", err
	}
	_, state, err := readStat(p.PID)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return Stopped, nil
	case err != nil:
		return "", err
	case state == 'Z' || state == 'X':
		return Stopped, nil
	case state == 'T':
		return Paused, nil
	}
	return Running, nil
}

// open gives a descriptor that stands for exactly this process, or none when
// it has ended.
func (p Process) open() (fd int, alive bool, err error) {
	if p.PID <= 0 {
		return -1, false, nil
	}
	fd, err = unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, false, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	// The descriptor cannot move to another process; only now is comparing safe.
	state, err := p.State()
	if err != nil || state == Stopped {
		return -1, false, errors.Join(err, unix.Close(fd))
	}
	return fd, true, nil
}

// signal sends a signal; a process that has ended takes none, and that is no
// error.
func (p Process) signal(s unix.Signal) error {
	fd, alive, err := p.open()
	if err != nil || !alive {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // closing a pidfd has nothing to report
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", s, p.PID, err)
	}
	return nil
}

// stop sends SIGSTOP and returns when it has taken effect. A process that has
// ended cannot be stopped, which is an error here: nothing was paused.
func (p Process) stop(ctx context.Context) error {
	if err := p.signal(unix.SIGSTOP); err != nil {
		return err
	}
	tick := time.NewTicker(stopRetry)
	defer tick.Stop()
	for {
		state, err := p.State()
		if err != nil || state == Paused {
			return err
		}
		if state == Stopped {
			return fmt.Errorf("process %d has ended", p.PID)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d to stop: %w", p.PID, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// stopRetry: a signal is taken within a tick of the clock.
const stopRetry = 5 * time.Millisecond

// pollSlice is how long one poll of a pidfd lasts before the context is asked.
const pollSlice = 100 * time.Millisecond

// wait returns when the process has ended.
func (p Process) wait(ctx context.Context) error {
	fd, alive, err := p.open()
	if err != nil || !alive {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // closing a pidfd has nothing to report
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(pollSlice.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for process %d to end: %w", p.PID, context.Cause(ctx))
		}
	}
}

// loadProcess reads a file that save wrote. No file: no process.
func loadProcess(path string) (Process, error) {
	var p Process
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

func (p Process) save(path string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'), 0o600)
}
