// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/yamux"
)

// Handler answers calls.
type Handler interface {
	// Handle answers one call through w. The context ends when the caller
	// hangs up or the session ends. An error it returns is sent to the caller.
	Handle(ctx context.Context, r Request, w *Writer) error
}

// Writer sends the answer of one call: one Value, or many Events, or Bytes.
type Writer struct {
	enc    *json.Encoder
	stream io.Writer
	mu     sync.Mutex
	sent   bool
}

// Value sends the one answer of a call.
func (w *Writer) Value(v any) error { return w.send(v, false) }

// Event sends one of many answers.
func (w *Writer) Event(v any) error { return w.send(v, true) }

func (w *Writer) send(v any, more bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = w.sent || !more
	return w.enc.Encode(envelope{Value: data, More: more})
}

// Serve answers calls with h until the session ends, then waits for the calls
// in flight, whose contexts it has cancelled.
func (s *Session) Serve(ctx context.Context, h Handler) {
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.mux.Close() })
	defer stop()
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			return
		}
		calls.Go(func() { answer(ctx, stream, h) })
	}
}

func answer(ctx context.Context, stream *yamux.Stream, h Handler) {
	defer stream.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var r Request
	dec := json.NewDecoder(stream)
	w := &Writer{enc: json.NewEncoder(stream), stream: stream}
	if err := dec.Decode(&r); err != nil {
		_ = w.enc.Encode(envelope{Error: fmt.Sprintf("request not understood: %v", err)})
		return
	}
	// The caller sends no more than the newline that ends its request: reading
	// on ends when it hangs up.
	go func() {
		_, _ = io.Copy(io.Discard, stream)
		cancel()
	}()
	err := h.Handle(ctx, r, w)
	switch {
	case err != nil && !w.sent:
		_ = w.enc.Encode(envelope{Error: err.Error()})
	case !w.sent:
		_ = w.enc.Encode(envelope{})
	}
}
