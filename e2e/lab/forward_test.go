// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// server answers each connection with serve.
func server(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// forwarder listens for the targets in this process.
func forwarder(t *testing.T, targets ...string) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); forwardAll(ctx, l, targets) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the forwarder did not end with its context")
		}
	})
	return l.Addr().String()
}

// nobody is an address that refuses connections.
func nobody(t *testing.T) string {
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

func dialTCP(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c := must[net.Conn](t)(net.DialTimeout("tcp4", address, 5*time.Second))
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// A server that answers only after the client's end of stream needs the half
// close to be passed on, and the other half to stay open.
func TestForwardHalfClose(t *testing.T) {
	address := forwarder(t, server(t, func(c *net.TCPConn) {
		data, err := io.ReadAll(c)
		if err == nil {
			_, _ = fmt.Fprintf(c, "read %d", len(data))
		}
	}))
	c := dialTCP(t, address)
	if _, err := c.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "read 1048576" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestForwardManyAtOnce(t *testing.T) {
	address := forwarder(t, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	var all sync.WaitGroup
	errs := make(chan error, 200)
	for range cap(errs) {
		c := dialTCP(t, address) // all are open before the first byte is sent
		all.Go(func() { errs <- echo(c) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func echo(c *net.TCPConn) error {
	sent := make([]byte, 10_000)
	_, _ = rand.Read(sent)
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, sent) {
		err = errors.New("other bytes came back")
	}
	return err
}

func TestForwardToADeadMachineEndsTheConnection(t *testing.T) {
	c := dialTCP(t, forwarder(t, nobody(t)))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want the end of the stream", n, err)
	}
}

func TestForwardTakesTheFirstThatAccepts(t *testing.T) {
	says := func(s string) string { return server(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, s) }) }
	address := forwarder(t, nobody(t), says("second"), says("third"))
	if got, err := io.ReadAll(dialTCP(t, address)); err != nil || string(got) != "second" {
		t.Errorf("got %q, %v", got, err)
	}
}

// With one control plane without power, every connection to the API would
// else wait for its silence to time out.
func TestDialPassesOverASilentTarget(t *testing.T) {
	ended := make(chan string, 1)
	near, far := net.Pipe()
	defer far.Close()
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		switch address {
		case "silent":
			<-ctx.Done()
			ended <- address
			return nil, ctx.Err()
		case "refuses":
			return nil, errors.New("refused")
		}
		return near, nil
	}
	begun := time.Now()
	conn, err := dialFirst(t.Context(), dial, []string{"silent", "refuses", "accepts"})
	if err != nil || conn != near {
		t.Fatalf("got %v, %v", conn, err)
	}
	if took := time.Since(begun); took < dialNext || took > dialNext+time.Second {
		t.Errorf("took %v, want about %v", took, dialNext)
	}
	if got := <-ended; got != "silent" {
		t.Error("the other try was not given up")
	}
	if _, err := dialFirst(t.Context(), dial, []string{"refuses"}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// A target that accepts after another has is closed, not leaked.
func TestDialClosesTheLateOne(t *testing.T) {
	near, far := net.Pipe()
	late, lateFar := net.Pipe()
	defer near.Close()
	defer far.Close()
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		if address == "late" {
			<-ctx.Done() // given up, but the connection was just made
			return late, nil
		}
		return near, nil
	}
	if conn, err := dialFirst(t.Context(), dial, []string{"late", "quick"}); err != nil || conn != near {
		t.Fatalf("got %v, %v", conn, err)
	}
	if _, err := lateFar.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the late connection: %v, want its end", err)
	}
}

// A machine that dies resets its connections; the client must notice though it
// is only reading.
func TestForwardPassesAnAbruptEnd(t *testing.T) {
	address := forwarder(t, server(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "x")
		_ = c.SetLinger(0)
	}))
	c := dialTCP(t, address)
	if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) {
		t.Error("the client was left hanging")
	}
}

func TestForwardEndsOpenConnectionsWithItsContext(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	target := server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	go func() { defer close(done); forwardAll(ctx, l, []string{target}) }()
	c := dialTCP(t, l.Addr().String())
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("an idle connection holds the forwarder")
	}
}

func TestForwardAlone(t *testing.T) {
	if err := Forward(t.Context(), nil); err == nil {
		t.Error("without addresses there is nothing to do")
	}
}

func TestListenAllNamesTheTakenPort(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if _, err := listenAll(t.Context(), []int{port}); err == nil || !bytes.Contains([]byte(err.Error()), fmt.Append(nil, port)) {
		t.Errorf("got %v", err)
	}
}
