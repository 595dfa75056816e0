// SPDX-License-Identifier: Apache-2.0

// Command muster-proxier makes Kubernetes Services work on the host it runs
// on, with IPVS. It takes kube-proxy's place and reads its configuration
// file; see package proxier for what it serves.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "muster-proxier:", err)
		os.Exit(1)
	}
}
