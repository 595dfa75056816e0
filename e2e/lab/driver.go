// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"net/netip"
)

// driver runs machines of one kind. Each method names a machine by the process
// that Start gave, and does nothing to a process that has ended.
type driver interface {
	// Start boots a machine and returns when its process runs. It inherits the
	// calling thread's network namespace and processor.
	Start(ctx context.Context, m launch) (Process, error)
	// PowerOff presses the power button: the machine's systemd shuts it down.
	PowerOff(ctx context.Context, m launch, p Process) error
	// Kill takes the power away.
	Kill(ctx context.Context, p Process) error
	// Pause stops the machine's time as far as its neighbours see.
	Pause(ctx context.Context, p Process) error
	// Resume lets a paused machine go on.
	Resume(p Process) error
}

// launch is what a driver has to know of a machine.
type launch struct {
	Name      string
	Dir       string // the machine's own directory: seed.tar is in it, the disk goes there
	Kernel    string // path
	Base      string // path of the root image that the disk is based on, read only
	Console   string // file that the machine's console is appended to
	MemoryMiB int
	Tap       string // device on the lab's bridge
	MAC       string
	Address   netip.Prefix
	Gateway   netip.Addr
	Address6  netip.Prefix
	Gateway6  netip.Addr
}

// Names in a machine's directory.
const (
	diskFile    = "disk.cow" // what the machine has changed of it
	seedFile    = "seed.tar" // files for the first boot
	consoleFile = "console.log"
	processFile = "process.json"
)
