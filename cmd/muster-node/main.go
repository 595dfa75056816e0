// SPDX-License-Identifier: Apache-2.0

// Command muster-node is the part of muster that runs on each host. muster
// uploads it once, starts it over SSH as `muster-node serve` and drives it over
// that session's stdin and stdout. Two of its other commands are run by units
// of the cluster: cni-config by flanneld, approve on control-plane hosts.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "muster-node:", err)
		os.Exit(1)
	}
}

// commands by name; the usage text lists them in this order.
var commands = []struct {
	name, help string
	run        func(ctx context.Context, args []string, in io.Reader, out io.Writer) error
}{
	{"serve", "be driven by muster over stdin and stdout", serve},
	{"cni-config", "write the CNI configuration from flannel's subnet file", cniConfig},
	{"approve", "approve the serving certificates that kubelets ask for", approve},
	{"version", "print the version", version},
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				return c.run(ctx, args[1:], in, out)
			}
		}
	}
	usage := "usage: muster-node COMMAND"
	for _, c := range commands {
		usage += fmt.Sprintf("\n  %-12s %s", c.name, c.help)
	}
	return fmt.Errorf("%s", usage)
}
