// SPDX-License-Identifier: Apache-2.0

// Package orders is what an emulated machine of the lab and its first program
// agree on.
package orders

// Orders are what the machine's first program finds in File. It loads every
// module of Modules in the order of their names, mounts the disk, copies Files
// to /root there, and runs Argv with Output as its output. The last line that
// it writes there is Exit and the exit code.
type Orders struct {
	Argv []string
	Env  []string
}

// Where things are.
const (
	File    = "/orders.json"
	Modules = "/modules"
	Files   = "/files"
	Disk    = "/dev/vda"
	Output  = "/dev/ttyS1"
	Exit    = "muster: exit code "
)
