// SPDX-License-Identifier: Apache-2.0

// Command proxier measures muster-proxier beside kube-proxy, in its modes ipvs
// and nftables: how fast the kernel follows the API, what that costs, and how
// fast connections are. All three are the real programs, run one after the
// other in one lab machine, each in a new network namespace, against an API
// server in that machine which serves them the same objects from memory. It
// prints what it found and, with -out, puts it into a section of a Markdown
// file. Nothing in here asserts a time.
//
// The same program is what runs inside the machine: as node it measures one
// contender, as pods and client it is the hosts around it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) error {
	role := ""
	if len(args) > 0 {
		role = args[0]
	}
	switch role {
	case "node":
		return measureNode(ctx, args[1:], out, errOut)
	case "pods":
		return servePods(ctx, in)
	case "client":
		return takeOrders(ctx, in, out)
	}
	return operate(ctx, args, out, errOut)
}
