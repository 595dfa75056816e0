// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
	buildversion "github.com/muster-project/muster/version"
)

// serve answers calls until the other end hangs up.
func serve(ctx context.Context, _ []string, in io.Reader, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("serve: needs root; log in as root or give the user sudo without a password")
	}
	session, err := protocol.Server(stdio{polled(in), out})
	if err != nil {
		return err
	}
	api := &agent.API{}
	host := &step.Host{
		Root: "/", Units: &agent.Systemd{}, Exec: agent.Exec{}, Now: time.Now,
		Operator: agent.Operator{Session: session}, API: api,
	}
	api.Path = host.Path
	journal, err := agent.OpenJournal(host)
	if err != nil {
		return err
	}
	a := &agent.Agent{Host: host, Journal: journal, Version: buildversion.Version}
	session.Serve(ctx, a)
	return a.Close()
}

// polled gives a pipe to the runtime's poller. os.Stdin is read by blocking
// system calls, for each of which the runtime hands its processor to another
// thread and back: 53,000 context switches for an upload of 128 MB.
func polled(in io.Reader) io.Reader {
	f, ok := in.(*os.File)
	if !ok || syscall.SetNonblock(int(f.Fd()), true) != nil {
		return in
	}
	return os.NewFile(f.Fd(), f.Name())
}

// stdio is a connection made of two streams.
type stdio struct {
	io.Reader
	io.Writer
}

// Close leaves the streams to the process's end.
func (stdio) Close() error { return nil }

func version(_ context.Context, _ []string, _ io.Reader, out io.Writer) error {
	_, err := fmt.Fprintln(out, buildversion.Version)
	return err
}
