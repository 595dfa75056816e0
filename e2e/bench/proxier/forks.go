// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// forks counts the processes that a process and its descendants start. The
// kernel's process connector (PROC_EVENT_FORK) tells of each; threads are left
// out.
type forks struct {
	mu     sync.Mutex
	family map[uint32]bool
	count  int
	lost   error
	done   chan struct{}
}

// watchForks begins to listen. The connector exists in the first network
// namespace only, so its socket is made there.
func watchForks() (*forks, error) {
	f := &forks{family: map[uint32]bool{}, done: make(chan struct{})}
	events, faults := make(chan netlink.ProcEvent, 4096), make(chan error, 1)
	if err := inFirstNamespace(func() error { return netlink.ProcEventMonitor(events, f.done, faults) }); err != nil {
		return nil, fmt.Errorf("listen to the process connector: %w", err)
	}
	go f.listen(events, faults)
	return f, nil
}

func (f *forks) listen(events <-chan netlink.ProcEvent, faults <-chan error) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			f.see(e)
		case err := <-faults:
			f.mu.Lock()
			f.lost = err
			f.mu.Unlock()
			return
		case <-f.done:
			return
		}
	}
}

func (f *forks) see(e netlink.ProcEvent) {
	fork, ok := e.Msg.(*netlink.ForkProcEvent)
	if !ok || fork.ChildPid != fork.ChildTgid {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.family[fork.ParentTgid] {
		f.family[fork.ChildTgid] = true
		f.count++
	}
}

// follow names the process whose forks count.
func (f *forks) follow(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.family[uint32(pid)] = true
}

// so says how many there were so far.
func (f *forks) so() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count, f.lost
}

func (f *forks) close() { close(f.done) }

// inFirstNamespace runs do in the network namespace of PID 1.
func inFirstNamespace(do func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close() //nolint:errcheck // only a reference
	first, err := netns.GetFromPid(1)
	if err != nil {
		return err
	}
	defer first.Close() //nolint:errcheck // only a reference
	if err := netns.Set(first); err != nil {
		return err
	}
	err = do()
	if back := netns.Set(here); back != nil {
		// The thread stays locked and ends with the goroutine: nothing else
		// may run in the wrong namespace.
		return errors.Join(err, fmt.Errorf("return to the network namespace: %w", back), os.ErrInvalid)
	}
	runtime.UnlockOSThread()
	return err
}
