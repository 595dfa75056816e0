// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const (
	// bootWithin bounds the time from a machine's start to its sshd. One needs
	// 3 s on an idle computer; a dozen at once on two processors half a minute.
	bootWithin = 3 * time.Minute
	// powerOffWithin bounds a clean shutdown; the image gives each unit 15 s.
	powerOffWithin = 90 * time.Second
)

// awaitBoot waits for a machine that was started just now, or ran already.
func (l *Lab) awaitBoot(ctx context.Context, m machineRecord, say func(string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootWithin, fmt.Errorf("not within %v", bootWithin))
	defer cancel()
	say("waiting for SSH")
	if err := l.WaitSSH(ctx, m.Name); err != nil {
		return err
	}
	say("up at " + m.Address.String())
	return nil
}

// start starts a machine unless it runs.
func (l *Lab) start(ctx context.Context, ns netns.NsHandle, m machineRecord) error {
	path := l.dir.machine(m.Name, processFile)
	p, err := loadProcess(path)
	if err != nil {
		return err
	}
	state, err := p.State()
	if err != nil || state == Running {
		return err
	}
	if state == Paused {
		return l.driver.Resume(p)
	}
	if err := l.reap(ctx, ns, m); err != nil {
		return err
	}
	err = onThread(ns, m.Core, func() error {
		p, err = l.driver.Start(ctx, l.launch(m))
		return err
	})
	if err != nil {
		return err
	}
	if err := p.save(path); err != nil {
		return errors.Join(err, l.driver.Kill(ctx, p))
	}
	return nil
}

// reap ends what a dead machine has left running in the namespace: processes
// whose working directory is the machine's. Two machines on one disk would
// destroy it.
func (l *Lab) reap(ctx context.Context, ns netns.NsHandle, m machineRecord) error {
	all, err := processesIn(ns)
	if err != nil {
		return err
	}
	for _, p := range all {
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID))
		if err != nil || cwd != l.dir.machine(m.Name) {
			continue
		}
		if err := errors.Join(p.signal(unix.SIGKILL), p.wait(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) launch(m machineRecord) launch {
	gateway := netip.MustParseAddr(gatewayAddress)
	return launch{
		Name: m.Name, Dir: l.dir.machine(m.Name), Kernel: l.dir.path(kernelFile), Base: l.dir.path(baseFile), Console: l.dir.machine(m.Name, consoleFile),
		MemoryMiB: m.MemoryMiB, Tap: tapOf(m.Address), MAC: macOf(m.Address), Gateway: gateway,
		Address:  netip.PrefixFrom(m.Address, netip.MustParsePrefix(networkPrefix).Bits()),
		Address6: netip.PrefixFrom(address6Of(m.Address), netip.MustParsePrefix(networkPrefix6).Bits()),
		Gateway6: address6Of(gateway),
	}
}

// onMachine runs f with the machine's process, one such call at a time per
// machine.
func (l *Lab) onMachine(ctx context.Context, name, verb string, f func(machineRecord, Process) error) error {
	fail := func(err error) error { return fmt.Errorf("lab %s: %s %s: %w", l.record.Name, verb, name, err) }
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	unlockLab, err := lock(ctx, lockOf(l.dir), shared, func() {})
	if err != nil {
		return fail(err)
	}
	defer unlockLab() //nolint:errcheck // the lock ends with its descriptor either way
	unlock, err := lock(ctx, l.dir.machine(name, ".lock"), alone, func() {})
	if err != nil {
		return fail(err)
	}
	defer unlock() //nolint:errcheck // as above
	p, err := loadProcess(l.dir.machine(name, processFile))
	if err == nil {
		err = f(m, p)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// withNamespace runs f with the lab's namespace.
func (l *Lab) withNamespace(f func(netns.NsHandle) error) error {
	ns, err := openNamespace(l.Namespace())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: run \"muster lab up --name %s\"", err, l.record.Name)
	}
	if err != nil {
		return err
	}
	return errors.Join(f(ns), ns.Close())
}

// Start starts a stopped machine, or resumes a paused one, and waits for SSH.
func (l *Lab) Start(ctx context.Context, name string) error {
	var machine machineRecord
	err := l.onMachine(ctx, name, "start", func(m machineRecord, _ Process) error {
		machine = m
		return l.withNamespace(func(ns netns.NsHandle) error { return l.start(ctx, ns, m) })
	})
	if err != nil {
		return err
	}
	return l.awaitBoot(ctx, machine, func(string) {})
}

// Stop shuts a machine down as its power button does and waits for its end.
func (l *Lab) Stop(ctx context.Context, name string) error {
	return l.onMachine(ctx, name, "stop", func(m machineRecord, p Process) error {
		if state, err := p.State(); err != nil || state == Stopped {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, powerOffWithin, fmt.Errorf("not within %v: kill it", powerOffWithin))
		defer cancel()
		if err := l.driver.PowerOff(ctx, l.launch(m), p); err != nil {
			return err
		}
		return p.wait(ctx)
	})
}

// Kill takes a machine's power away: what it has not synced is lost.
func (l *Lab) Kill(ctx context.Context, name string) error {
	return l.onMachine(ctx, name, "kill", func(m machineRecord, p Process) error {
		if err := l.driver.Kill(ctx, p); err != nil {
			return err
		}
		return l.withNamespace(func(ns netns.NsHandle) error { return l.reap(ctx, ns, m) })
	})
}

// Pause freezes a machine: it answers nothing, and loses nothing.
func (l *Lab) Pause(ctx context.Context, name string) error {
	return l.onMachine(ctx, name, "pause", func(_ machineRecord, p Process) error { return l.driver.Pause(ctx, p) })
}

// Resume lets a paused machine go on.
func (l *Lab) Resume(ctx context.Context, name string) error {
	return l.onMachine(ctx, name, "resume", func(_ machineRecord, p Process) error { return l.driver.Resume(p) })
}

// Cut pulls a machine's network cable: it runs on alone.
func (l *Lab) Cut(ctx context.Context, name string) error { return l.plug(ctx, name, "cut", false) }

// Mend puts the cable back.
func (l *Lab) Mend(ctx context.Context, name string) error { return l.plug(ctx, name, "mend", true) }

func (l *Lab) plug(ctx context.Context, name, verb string, in bool) error {
	return l.onMachine(ctx, name, verb, func(m machineRecord, _ Process) error {
		return l.withNamespace(func(ns netns.NsHandle) error {
			n, err := openNetwork(ns)
			if err != nil {
				return err
			}
			defer n.close()
			return n.plug(tapOf(m.Address), in)
		})
	})
}

// Reboot restarts a machine from inside and waits until SSH answers in the new
// boot.
func (l *Lab) Reboot(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, powerOffWithin+bootWithin, fmt.Errorf("not within %v", powerOffWithin+bootWithin))
	defer cancel()
	before, err := l.bootID(ctx, name)
	if err != nil {
		return fmt.Errorf("lab %s: reboot: %w", l.record.Name, err)
	}
	// The connection may end before the command does.
	var gone *ssh.ExitMissingError
	if _, err := l.Run(ctx, name, "systemctl reboot"); err != nil && !errors.As(err, &gone) {
		return fmt.Errorf("lab %s: reboot: %w", l.record.Name, err)
	}
	tick := time.NewTicker(sshRetry)
	defer tick.Stop()
	for {
		// Until the machine goes down, and while it is down, this is the old
		// boot or an error; neither is final.
		if now, err := l.bootID(ctx, name); err == nil && now != before {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lab %s: reboot %s: %w: see %s", l.record.Name, name, context.Cause(ctx), l.dir.machine(name, consoleFile))
		case <-tick.C:
		}
	}
}

func (l *Lab) bootID(ctx context.Context, name string) (string, error) {
	out, err := l.Run(ctx, name, "cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(out), err
}
