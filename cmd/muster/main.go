// SPDX-License-Identifier: Apache-2.0

// Command muster turns plain Linux machines into a Kubernetes cluster over SSH
// and keeps it as its inventory file says.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	cobra.EnableCommandSorting = false // phases are listed in their order, commands as they are needed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
