// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

// handler answers by op and remembers whose contexts ended.
type handler struct {
	ops map[protocol.Op]func(context.Context, protocol.Request, *protocol.Writer) error

	mu    sync.Mutex
	calls []protocol.Op
}

func (h *handler) Handle(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	h.mu.Lock()
	h.calls = append(h.calls, r.Op)
	h.mu.Unlock()
	answer, ok := h.ops[r.Op]
	if !ok {
		return fmt.Errorf("no such call %q", r.Op)
	}
	return answer(ctx, r, w)
}

// pair connects two sessions, each served by its handler, and ends them with
// the test. cut breaks the connection below them.
func pair(t *testing.T, muster, node protocol.Handler) (client, server *protocol.Session, cut func()) {
	t.Helper()
	a, b := net.Pipe()
	client, err := protocol.Client(a)
	if err != nil {
		t.Fatal(err)
	}
	server, err = protocol.Server(b)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { client.Serve(context.Background(), muster) })
	served.Go(func() { server.Serve(context.Background(), node) })
	t.Cleanup(func() {
		client.Close()
		server.Close()
		within(t, "both sides to stop serving", served.Wait)
	})
	return client, server, func() { a.Close(); b.Close() }
}

// within fails the test if f does not return soon.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

func none() *handler { return &handler{} }

// echo answers an OpAuthority with the name it was asked for.
func echo(_ context.Context, r protocol.Request, w *protocol.Writer) error {
	return w.Value(protocol.Data{Data: []byte(r.Name)})
}

func ops(op protocol.Op, f func(context.Context, protocol.Request, *protocol.Writer) error) *handler {
	return &handler{ops: map[protocol.Op]func(context.Context, protocol.Request, *protocol.Writer) error{op: f}}
}

func TestCallsBothWaysAtOnce(t *testing.T) {
	client, server, _ := pair(t, ops(protocol.OpAuthority, echo), ops(protocol.OpAuthority, echo))
	var all sync.WaitGroup
	for i := range 100 {
		for side, s := range map[string]*protocol.Session{"muster": client, "node": server} {
			all.Go(func() {
				name := fmt.Sprintf("%s-%d", side, i)
				got, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpAuthority, Name: name})
				if err != nil || string(got.Data) != name {
					t.Errorf("call %s: got %q, %v", name, got.Data, err)
				}
			})
		}
	}
	within(t, "200 calls", all.Wait)
}

// A handler may ask its caller back before it answers: a host that installs a
// file asks for the blob.
func TestCallBackWhileAnswering(t *testing.T) {
	var server *protocol.Session
	node := ops(protocol.OpApply, func(ctx context.Context, _ protocol.Request, w *protocol.Writer) error {
		got, err := protocol.Call[protocol.Data](ctx, server, protocol.Request{Op: protocol.OpAuthority, Name: "etcd"})
		if err != nil {
			return err
		}
		return w.Event(protocol.Event{Text: string(got.Data), State: protocol.Changed})
	})
	client, s, _ := pair(t, ops(protocol.OpAuthority, echo), node)
	server = s
	var events []protocol.Event
	err := protocol.Stream(t.Context(), client, protocol.Request{Op: protocol.OpApply}, func(e protocol.Event) { events = append(events, e) })
	if err != nil || len(events) != 1 || events[0].Text != "etcd" {
		t.Errorf("got %v, %v", events, err)
	}
}

func TestEventsKeepOrder(t *testing.T) {
	const many = 5000
	node := ops(protocol.OpApply, func(_ context.Context, r protocol.Request, w *protocol.Writer) error {
		for i := range many {
			if err := w.Event(protocol.Event{Index: i, Text: r.Steps[0].String(), State: protocol.Right}); err != nil {
				return err
			}
		}
		return nil
	})
	client, _, _ := pair(t, none(), node)
	next := 0
	err := protocol.Stream(t.Context(), client, protocol.Request{Op: protocol.OpApply, Steps: step.List{step.Absent{Path: "/x"}}},
		func(e protocol.Event) {
			if e.Index != next || e.Text != "remove /x" {
				t.Errorf("event %d: got %+v", next, e)
			}
			next++
		})
	if err != nil || next != many {
		t.Errorf("got %d events, %v", next, err)
	}
}

// A request is followed by a newline, and what JSON decoders read ahead ends
// wherever their buffers do. No length may make the newline look like the
// caller hanging up.
func TestRequestsOfEveryLength(t *testing.T) {
	node := ops(protocol.OpAuthority, func(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
		// Long enough for a wrongly cancelled context to be seen.
		select {
		case <-ctx.Done():
			return errors.New("context ended while the caller was waiting")
		case <-time.After(2 * time.Millisecond):
		}
		return w.Value(protocol.Data{Data: []byte(r.Name)})
	})
	client, _, _ := pair(t, none(), node)
	var all sync.WaitGroup
	for _, around := range []int{512, 1536, 3584, 7680} {
		for n := around - 40; n < around+10; n++ {
			all.Go(func() {
				name := strings.Repeat("x", n)
				if got, err := protocol.Call[protocol.Data](t.Context(), client, protocol.Request{Op: protocol.OpAuthority, Name: name}); err != nil || string(got.Data) != name {
					t.Errorf("name of %d bytes: %v", n, err)
				}
			})
		}
		all.Wait()
	}
}

func TestBytes(t *testing.T) {
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 9 << 20} {
		content := make([]byte, size)
		source := rand.NewChaCha8([32]byte{byte(size)})
		_, _ = source.Read(content)
		node := ops(protocol.OpBlob, func(_ context.Context, _ protocol.Request, w *protocol.Writer) error {
			return w.Bytes(iotest.HalfReader(bytes.NewReader(content)))
		})
		client, _, _ := pair(t, none(), node)
		// Side by side, as a host does that installs several files.
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				body, err := protocol.Bytes(t.Context(), client, protocol.Request{Op: protocol.OpBlob})
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
				defer body.Close()
				got, err := io.ReadAll(body)
				if err != nil || sha256.Sum256(got) != sha256.Sum256(content) {
					t.Errorf("%d bytes: got %d, %v", size, len(got), err)
				}
			})
		}
		within(t, "the blobs", all.Wait)
	}
}

func TestRefusals(t *testing.T) {
	broken := errors.New("the disk has a bad block")
	node := &handler{ops: map[protocol.Op]func(context.Context, protocol.Request, *protocol.Writer) error{
		protocol.OpSign: func(context.Context, protocol.Request, *protocol.Writer) error { return errors.New("no such CA") },
		protocol.OpApply: func(_ context.Context, _ protocol.Request, w *protocol.Writer) error {
			return errors.Join(w.Event(protocol.Event{Text: "one"}), errors.New("a step failed"))
		},
		protocol.OpBlob: func(_ context.Context, _ protocol.Request, w *protocol.Writer) error {
			return w.Bytes(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
		},
	}}
	client, _, _ := pair(t, none(), node)
	cases := []struct {
		name, want string
		call       func() error
	}{
		{"before an answer", "no such CA", func() error {
			_, err := protocol.Call[protocol.Data](t.Context(), client, protocol.Request{Op: protocol.OpSign})
			return err
		}},
		{"after events", "a step failed", func() error {
			return protocol.Stream(t.Context(), client, protocol.Request{Op: protocol.OpApply}, func(protocol.Event) {})
		}},
		{"instead of bytes", `no such call "token"`, func() error {
			_, err := protocol.Bytes(t.Context(), client, protocol.Request{Op: protocol.OpToken})
			return err
		}},
		{"amid bytes", broken.Error(), func() error {
			body, err := protocol.Bytes(t.Context(), client, protocol.Request{Op: protocol.OpBlob})
			if err != nil {
				return err
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if string(got) != "half" {
				t.Errorf("amid bytes: got %q before the error", got)
			}
			return err
		}},
	}
	for _, c := range cases {
		err := c.call()
		var refused *protocol.RemoteError
		if !errors.As(err, &refused) || refused.Message != c.want {
			t.Errorf("%s: got %v, want the remote error %q", c.name, err, c.want)
		}
	}
}

// A handler that answers nothing still ends its call.
func TestEmptyAnswer(t *testing.T) {
	node := ops(protocol.OpApply, func(context.Context, protocol.Request, *protocol.Writer) error { return nil })
	client, _, _ := pair(t, none(), node)
	err := protocol.Stream(t.Context(), client, protocol.Request{Op: protocol.OpApply}, func(protocol.Event) { t.Error("an event") })
	if err != nil {
		t.Error(err)
	}
}

func TestValueThatIsNoJSON(t *testing.T) {
	node := ops(protocol.OpFacts, func(_ context.Context, _ protocol.Request, w *protocol.Writer) error { return w.Value(make(chan int)) })
	client, _, _ := pair(t, none(), node)
	_, err := protocol.Call[protocol.Data](t.Context(), client, protocol.Request{Op: protocol.OpFacts})
	if err == nil || !strings.Contains(err.Error(), "encode answer") {
		t.Errorf("got %v", err)
	}
}
