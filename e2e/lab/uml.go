// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// uml runs machines as User Mode Linux: the kernel is an ordinary process and
// each program in the machine is a traced child of it.
type uml struct {
	memory string // directory on a tmpfs that takes the machines' memory
	room   uint64 // bytes that it can take
}

// umlMemory is where Linux has its shared memory. UML maps the machine's
// memory from a file; on a disk, every page written would go to that disk.
const umlMemory = "/dev/shm"

// newUML checks what UML needs of this computer.
func newUML() (uml, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(umlMemory, &fs); err != nil {
		return uml{}, fmt.Errorf("check %s, which takes the machines' memory: %w: mount a tmpfs there", umlMemory, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return uml{}, fmt.Errorf("%s is no tmpfs, machines would run at the disk's speed: mount -t tmpfs tmpfs %s", umlMemory, umlMemory)
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return uml{}, fmt.Errorf("%s is mounted noexec, machines run code from it: mount -o remount,exec %s", umlMemory, umlMemory)
	}
	return uml{memory: umlMemory, room: fs.Bavail * uint64(fs.Bsize)}, nil
}

// umlSockets is the directory of the management consoles, relative to the
// machine's directory: a socket's whole path must fit into 108 bytes.
const umlSockets = "uml"

// umlArguments is the machine's command line. Words that the kernel does not
// know stay in /proc/cmdline, where guest/init reads them. The image's path is
// relative because the absolute one may hold commas and spaces.
func umlArguments(m launch) ([]string, error) {
	base, err := filepath.Rel(m.Dir, m.Base)
	if err != nil {
		return nil, err
	}
	return []string{
		"umid=" + m.Name,
		"uml_dir=" + umlSockets,
		"mem=" + strconv.Itoa(m.MemoryMiB) + "M",
		"ubd0=" + diskFile + "," + base,
		"ubd1r=" + seedFile,
		"root=/dev/ubda", "rw",
		// The image's inode tables are zero already: it is a new sparse file.
		"rootflags=noinit_itable",
		"init=" + guestInit,
		// Without gro large segments are dropped and transfers hang.
		"vec0:transport=tap,ifname=" + m.Tap + ",depth=128,gro=1,mac=" + m.MAC,
		"con=null", "con0=null,fd:1", "ssl=null",
		"net.ifnames=0",
		"systemd.show_status=0",
		// Drivers are built in, but a machine has only the devices that it made.
		"dummy.numdummies=0", "fb_tunnels=none",
		"muster.address=" + m.Address.String(),
		"muster.gateway=" + m.Gateway.String(),
		"muster.address6=" + m.Address6.String(),
		"muster.gateway6=" + m.Gateway6.String(),
	}, nil
}

func (u uml) Start(ctx context.Context, m launch) (Process, error) {
	if err := ctx.Err(); err != nil {
		return Process{}, context.Cause(ctx)
	}
	if err := os.MkdirAll(filepath.Join(m.Dir, umlSockets), 0o700); err != nil {
		return Process{}, err
	}
	// A machine that was killed leaves its directory, and the next one would
	// take a random name in its place.
	if err := os.RemoveAll(filepath.Join(m.Dir, umlSockets, m.Name)); err != nil {
		return Process{}, err
	}
	arguments, err := umlArguments(m)
	if err != nil {
		return Process{}, err
	}
	console, err := os.OpenFile(m.Console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer console.Close() //nolint:errcheck // the machine has its own descriptor
	cmd := exec.Command(m.Kernel, arguments...)
	cmd.Dir = m.Dir
	cmd.Env = []string{"TMPDIR=" + u.memory, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = console, console
	return startDetached(cmd)
}

// startDetached starts a process that outlives this one and that a Ctrl-C in
// this terminal does not reach.
func startDetached(cmd *exec.Cmd) (Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Process{}, err
	}
	p, err := identify(cmd.Process.Pid)
	go cmd.Wait() //nolint:errcheck // only so that it is no zombie while this process lives
	return p, err
}

func (uml) PowerOff(ctx context.Context, m launch, p Process) error {
	if err := p.signal(unix.SIGCONT); err != nil {
		return err
	}
	// ctrl-alt-del: the image's systemd takes it for the power button.
	return mconsole(ctx, filepath.Join(m.Dir, umlSockets, m.Name, "mconsole"), "cad")
}

func (uml) Kill(ctx context.Context, p Process) error {
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.wait(ctx)
}

// Pause stops only the kernel's process. Its traced children run into their
// next system call and wait there; a SIGSTOP of their own would reach the
// kernel as an unexpected signal and end the machine.
func (uml) Pause(ctx context.Context, p Process) error { return p.stop(ctx) }

func (uml) Resume(p Process) error { return p.signal(unix.SIGCONT) }
