// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The forwarder's process lives in the lab's namespace, and so do the
// connections that it opens; the sockets that it accepts from were made
// outside and were handed to it, so they stay outside. No thread has to change
// its namespace while it runs.

// firstListener is the file descriptor of the forwarder's first listener:
// exec.Cmd.ExtraFiles begin after standard error.
const firstListener = 3

// acceptPause is the rest after a failed accept, which would else spin.
const acceptPause = 100 * time.Millisecond

// route is one local port and where its connections go: the first target that
// accepts, in order.
type route struct {
	port    int // on 127.0.0.1
	targets []string
}

// startForwarder starts the forwarder's process on the calling thread:
// connections to sockets[i] go to one of targets[i].
func startForwarder(program []string, sockets []*os.File, targets [][]string, log string) (Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer out.Close() //nolint:errcheck // the forwarder has its own descriptor
	args := slices.Clone(program[1:])
	for _, t := range targets {
		args = append(args, strings.Join(t, ","))
	}
	cmd := exec.Command(program[0], args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = sockets
	return startDetached(cmd)
}

// listenAll listens on ports of 127.0.0.1; the port of the error is in it.
func listenAll(ctx context.Context, ports []int) ([]*os.File, error) {
	var files []*os.File
	for _, port := range ports {
		f, err := listenFile(ctx, port)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() //nolint:errcheck // duplicates of sockets
	}
}

// listenFile listens on a port of 127.0.0.1 and gives the socket as a file.
func listenFile(ctx context.Context, port int) (*os.File, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("%w: if another program has taken the port, run \"muster lab down\" and then up for new ports", err)
	}
	defer l.Close() //nolint:errcheck // the file is a duplicate
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen on port %d: got a %T", port, l)
	}
	return tcp.File()
}

// freePorts finds ports of 127.0.0.1 that nobody listens on.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var config net.ListenConfig
	var ports []int
	var held []net.Listener // so that no port is found twice
	defer func() {
		for _, l := range held {
			l.Close() //nolint:errcheck // never accepted anything
		}
	}()
	for range n {
		l, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			ports = append(ports, a.Port)
		}
	}
	return ports, nil
}

// Forward is the forwarder's process: it accepts connections on the sockets it
// inherited, the first of them as file descriptor 3, and passes each on to the
// addresses (host:port, alternatives separated by commas) at the same place of
// args. It returns when the context ends.
func Forward(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("forward: no addresses: this command is started by \"lab up\" only")
	}
	var listeners []net.Listener
	for i := range args {
		f := os.NewFile(uintptr(firstListener+i), "listener")
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("forward: socket %d: %w: this command is started by \"lab up\" only", firstListener+i, err)
		}
		listeners = append(listeners, l)
	}
	var all sync.WaitGroup
	for i, l := range listeners {
		all.Go(func() { forwardAll(ctx, l, strings.Split(args[i], ",")) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close() //nolint:errcheck // the process ends
	}
	all.Wait()
	return nil
}

// forwardAll serves one listener until it is closed.
func forwardAll(ctx context.Context, l net.Listener, targets []string) {
	stop := context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // ends Accept
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: give connections time to end.
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		open.Go(func() { forwardOne(ctx, conn, targets) })
	}
}

// forwardOne connects one client, and closes it if no target accepts.
func forwardOne(ctx context.Context, client net.Conn, targets []string) {
	defer client.Close() //nolint:errcheck // the client has seen the end of stream
	var dialer net.Dialer
	machine, err := dialFirst(ctx, dialer.DialContext, targets)
	if err != nil {
		return
	}
	defer machine.Close() //nolint:errcheck // as above
	stop := context.AfterFunc(ctx, func() {
		client.Close()  //nolint:errcheck // ends both copies
		machine.Close() //nolint:errcheck // as above
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(machine, client) })
	both.Go(func() { pass(client, machine) })
	both.Wait()
}

// pass copies until the end of from and then says so to to, while the other
// direction may go on. After an error nothing more can arrive either way.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	to.Close()   //nolint:errcheck // broken already
	from.Close() //nolint:errcheck // as above
}
