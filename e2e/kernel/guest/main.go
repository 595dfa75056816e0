// SPDX-License-Identifier: Apache-2.0

// Command guest is the first program of an emulated machine (lab.Emulate): it
// loads modules, mounts the disk and runs one program on it. It needs no
// library and starts nothing else, so that a boot costs seconds even where
// every instruction is emulated.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	} else if err := report(code); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // the emulator ends instead
	fmt.Fprintln(os.Stderr, "guest: restart:", err)
}
