// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// connect makes namespace, bridge and taps, and starts the forwarder unless it
// runs with the same routes.
func (l *Lab) connect(ctx context.Context, program []string) (netns.NsHandle, error) {
	ns, err := ensureNamespace(l.Namespace())
	if err != nil {
		return netns.None(), err
	}
	inside, err := openNetwork(ns)
	if err == nil {
		// Tap devices are made by an ioctl, which acts on the thread's namespace
		// and not on the netlink socket's.
		err = onThread(ns, -1, func() error { return inside.ensure(l.record.Machines) })
		inside.close()
	}
	if err == nil {
		err = l.ensureForwarder(ctx, ns, program)
	}
	if err != nil {
		return netns.None(), errors.Join(err, ns.Close())
	}
	return ns, nil
}

// forwarderRecord is what the running forwarder was started with.
type forwarderRecord struct {
	Process Process    `json:"process"`
	Ports   []int      `json:"ports"`
	Targets [][]string `json:"targets"`
}

const forwarderFile = "forwarder.json"

// ensureForwarder starts the forwarder unless one runs with the lab's routes.
func (l *Lab) ensureForwarder(ctx context.Context, ns netns.NsHandle, program []string) error {
	want := forwarderRecord{}
	for _, r := range l.record.routes() {
		want.Ports, want.Targets = append(want.Ports, r.port), append(want.Targets, r.targets)
	}
	has, err := l.loadForwarder()
	if err != nil {
		return err
	}
	state, err := has.Process.State()
	want.Process = has.Process
	if err != nil || state == Running && reflect.DeepEqual(has, want) {
		return err
	}
	if err := errors.Join(has.Process.signal(unix.SIGKILL), has.Process.wait(ctx)); err != nil {
		return fmt.Errorf("end the old forwarder: %w", err)
	}
	return l.replaceForwarder(ctx, ns, program, want)
}

// loadForwarder reads what replaceForwarder wrote; no file is no forwarder.
func (l *Lab) loadForwarder() (forwarderRecord, error) {
	var has forwarderRecord
	data, err := os.ReadFile(l.dir.path(forwarderFile))
	if errors.Is(err, fs.ErrNotExist) {
		return has, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &has)
	}
	if err != nil {
		return has, fmt.Errorf("read %s: %w", l.dir.path(forwarderFile), err)
	}
	return has, nil
}

// replaceForwarder starts a forwarder outside of the namespace as far as its
// listening sockets go, and inside of it otherwise.
func (l *Lab) replaceForwarder(ctx context.Context, ns netns.NsHandle, program []string, want forwarderRecord) error {
	if len(program) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		program = []string{self, "lab", "forward"}
	}
	sockets, err := listenAll(ctx, want.Ports)
	if err != nil {
		return fmt.Errorf("start the forwarder: %w", err)
	}
	defer closeAll(sockets)
	err = onThread(ns, -1, func() error {
		want.Process, err = startForwarder(program, sockets, want.Targets, l.dir.path("forwarder.log"))
		return err
	})
	if err != nil {
		return fmt.Errorf("start the forwarder: %w", err)
	}
	data, err := json.Marshal(want)
	if err == nil {
		err = writeFile(l.dir.path(forwarderFile), append(data, '\n'), 0o600)
	}
	return err
}
