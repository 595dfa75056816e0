// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent/protocol"
)

// endless answers never and reports when its context has ended.
func endless(ended chan<- struct{}) func(context.Context, protocol.Request, *protocol.Writer) error {
	return func(ctx context.Context, _ protocol.Request, _ *protocol.Writer) error {
		<-ctx.Done()
		ended <- struct{}{}
		return ctx.Err()
	}
}

func TestCallerHangsUp(t *testing.T) {
	ended, began := make(chan struct{}, 1), make(chan struct{})
	client, _, _ := pair(t, none(), ops(protocol.OpApply, func(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
		close(began)
		return endless(ended)(ctx, r, w)
	}))
	why := errors.New("the person pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		failed <- protocol.Stream(ctx, client, protocol.Request{Op: protocol.OpApply}, func(protocol.Event) {})
	}()
	<-began // a request that was never sent has no handler
	cancel(why)
	within(t, "the caller", func() {
		if err := <-failed; !errors.Is(err, why) {
			t.Errorf("caller got %v, want the cause", err)
		}
	})
	within(t, "the handler's context to end", func() { <-ended })
	// The session lives on.
	if _, err := protocol.Call[protocol.Ack](t.Context(), client, protocol.Request{Op: protocol.OpLock}); err == nil || !strings.Contains(err.Error(), "no such call") {
		t.Errorf("next call: got %v", err)
	}
}

// A caller is not held up by a handler that does not listen to its context.
func TestCallerLeavesDeafHandler(t *testing.T) {
	deaf := make(chan struct{})
	client, _, _ := pair(t, none(), ops(protocol.OpFacts, func(context.Context, protocol.Request, *protocol.Writer) error {
		<-deaf
		return nil
	}))
	t.Cleanup(func() { close(deaf) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, "the caller", func() {
		if _, err := protocol.Call[protocol.Ack](ctx, client, protocol.Request{Op: protocol.OpFacts}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// The connection breaks while an answer is on its way: each kind of call says
// so, and none waits for ever or takes the part for the whole.
func TestConnectionBreaksOff(t *testing.T) {
	node := &handler{ops: map[protocol.Op]func(context.Context, protocol.Request, *protocol.Writer) error{
		protocol.OpFacts: func(ctx context.Context, _ protocol.Request, _ *protocol.Writer) error {
			<-ctx.Done()
			return ctx.Err()
		},
		protocol.OpApply: func(ctx context.Context, _ protocol.Request, w *protocol.Writer) error {
			err := w.Event(protocol.Event{Text: "one"})
			<-ctx.Done()
			return err
		},
		protocol.OpBlob: func(ctx context.Context, _ protocol.Request, w *protocol.Writer) error {
			return w.Bytes(io.MultiReader(strings.NewReader("half"), untilDone{ctx}))
		},
	}}
	calls := map[string]func(*protocol.Session, func()) error{
		"value": func(s *protocol.Session, cut func()) error {
			cut()
			_, err := protocol.Call[protocol.Ack](t.Context(), s, protocol.Request{Op: protocol.OpFacts})
			return err
		},
		"events": func(s *protocol.Session, cut func()) error {
			return protocol.Stream(t.Context(), s, protocol.Request{Op: protocol.OpApply}, func(protocol.Event) { cut() })
		},
		"bytes": func(s *protocol.Session, cut func()) error {
			body, err := protocol.Bytes(t.Context(), s, protocol.Request{Op: protocol.OpBlob})
			if err != nil {
				return err
			}
			defer body.Close()
			if _, err := io.ReadFull(body, make([]byte, 4)); err != nil {
				return err
			}
			cut()
			_, err = io.ReadAll(body)
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			client, _, cut := pair(t, none(), node)
			within(t, "the call to end", func() {
				if err := call(client, cut); err == nil || !strings.Contains(err.Error(), "the connection ") {
					t.Errorf("got %v, want an error that names the connection", err)
				}
			})
			within(t, "the session to end", func() { <-client.Done() })
		})
	}
}

// untilDone gives nothing until its context ends.
type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

func TestContextOfBytes(t *testing.T) {
	client, _, _ := pair(t, none(), ops(protocol.OpBlob, func(ctx context.Context, _ protocol.Request, w *protocol.Writer) error {
		return w.Bytes(untilDone{ctx})
	}))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := protocol.Bytes(ctx, client, protocol.Request{Op: protocol.OpBlob})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	cancel()
	within(t, "the read to end", func() {
		if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// The end of Serve's context ends the session and the calls in flight, whose
// handlers it waits for.
func TestServeEnds(t *testing.T) {
	a, b := net.Pipe()
	client, err := protocol.Client(a)
	if err != nil {
		t.Fatal(err)
	}
	server, err := protocol.Server(b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 1)
	began := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(ctx, ops(protocol.OpFacts, func(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
			close(began)
			return endless(ended)(ctx, r, w)
		}))
	}()
	failed := make(chan error, 1)
	go func() {
		_, err := protocol.Call[protocol.Ack](t.Context(), client, protocol.Request{Op: protocol.OpFacts})
		failed <- err
	}()
	<-began
	cancel()
	within(t, "Serve", func() { <-served })
	if len(ended) != 1 {
		t.Error("Serve returned before its handler")
	}
	within(t, "the caller", func() {
		if err := <-failed; err == nil {
			t.Error("the caller got an answer")
		}
	})
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}
