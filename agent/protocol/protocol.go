// SPDX-License-Identifier: Apache-2.0

// Package protocol is what muster and muster-node say to each other over one
// SSH session's stdin and stdout.
//
// The two byte streams carry a yamux session, so both sides can open calls at
// any time. A call is one yamux stream: one JSON request, then either one JSON
// answer, or JSON events until the last one, or bytes in chunks with a last
// answer that says whether they are all. Closing the session ends every call:
// muster-node has no life of its own beyond it.
package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// Version changes whenever the two programs would no longer understand each
// other. They are shipped together, so it is compared for equality only.
const Version = 2

// Op names a call.
type Op string

// Calls from muster to muster-node.
const (
	OpHello    Op = "hello"    // Request.Operator -> Hello
	OpFacts    Op = "facts"    // -> facts.Host
	OpApply    Op = "apply"    // Request.Steps, Check -> Event…
	OpReset    Op = "reset"    // -> Event…
	OpSnapshot Op = "snapshot" // -> []string, sorted
	OpLock     Op = "lock"     // Request.Operator -> Ack; held until the session ends
)

// Calls that both sides make: muster-node asks muster for them, and muster
// asks the muster-node of the host that has the CA keys.
const (
	OpSign      Op = "sign"      // Request.Certificate, Data (CSR) -> Data
	OpAuthority Op = "authority" // Request.Name -> Data
	OpToken     Op = "token"     // Request.Name, As -> Data
	OpBlob      Op = "blob"      // Request.Name (hex SHA-256) -> Ack, then bytes
)

// Request opens a call; which fields count is said beside each Op.
type Request struct {
	Op          Op
	Operator    string            `json:",omitempty"`
	Steps       step.List         `json:",omitempty"`
	Check       bool              `json:",omitempty"`
	Name        string            `json:",omitempty"`
	Certificate *pki.Request      `json:",omitempty"`
	As          *step.Credentials `json:",omitempty"`
	Data        []byte            `json:",omitempty"`
}

// Hello is what muster-node says of itself.
type Hello struct {
	Protocol int
	Version  string
	Root     bool
}

// Data is an answer that is bytes.
type Data struct{ Data []byte }

// Ack is an answer that says no more than "yes".
type Ack struct{}

// State says how a step stands.
type State string

// States of a step in an Event.
const (
	Right   State = "right"   // was as wanted
	Changed State = "changed" // was made as wanted
	Would   State = "would"   // check only: is not as wanted
	Unknown State = "unknown" // check only: could not be asked yet
	Started State = "started" // is being done or waited for
	Failed  State = "failed"
)

// Event is one thing that happened to one step of an OpApply or OpReset.
type Event struct {
	Index    int // of the step
	Text     string
	State    State
	Took     time.Duration
	Cause    string   `json:",omitempty"`
	Evidence []string `json:",omitempty"`
}

// envelope is what answers travel in: a value or the reason there is none.
type envelope struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
	More  bool            `json:"more,omitempty"` // another envelope follows
}

// RemoteError is the other side's refusal of a call.
type RemoteError struct{ Message string }

func (e *RemoteError) Error() string { return e.Message }

// Session is one connection between the two programs.
type Session struct{ mux *yamux.Session }

// Client starts the muster side of a session.
func Client(conn io.ReadWriteCloser) (*Session, error) {
	mux, err := yamux.Client(conn, config())
	return &Session{mux}, err
}

// Server starts the muster-node side of a session.
func Server(conn io.ReadWriteCloser) (*Session, error) {
	mux, err := yamux.Server(conn, config())
	return &Session{mux}, err
}

// config gives each call a window of 4 MiB: at 100 ms of latency the default
// of 256 KiB would hold a transfer to 2.5 MB/s.
func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.MaxStreamWindowSize = 4 << 20
	c.StreamOpenTimeout = 2 * time.Minute
	c.ConnectionWriteTimeout = 2 * time.Minute
	c.EnableKeepAlive = false // the SSH connection below has its own
	c.LogOutput = io.Discard
	return c
}

// Close ends every call.
func (s *Session) Close() error { return s.mux.Close() }

// Done is closed when the session has ended, whoever ended it.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Call makes one call and decodes its one answer.
func Call[T any](ctx context.Context, s *Session, r Request) (T, error) {
	var answer T
	stream, stop, err := s.open(ctx, r)
	if err != nil {
		return answer, err
	}
	defer stop()
	_, err = receive(ctx, json.NewDecoder(stream), &answer)
	return answer, err
}

// Stream makes a call that answers with many values.
func Stream[T any](ctx context.Context, s *Session, r Request, each func(T)) error {
	stream, stop, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	defer stop()
	dec := json.NewDecoder(stream)
	for {
		var value T
		more, err := receive(ctx, dec, &value)
		if err != nil || !more {
			return err
		}
		each(value)
	}
}

func (s *Session) open(ctx context.Context, r Request) (*yamux.Stream, func(), error) {
	stream, err := s.mux.OpenStream()
	if err != nil {
		return nil, nil, fmt.Errorf("the connection is gone: %w", err)
	}
	release := context.AfterFunc(ctx, func() { hangUp(stream) })
	stop := func() { release(); stream.Close() }
	if err := json.NewEncoder(stream).Encode(r); err != nil {
		stop()
		return nil, nil, brokenOff(ctx, err)
	}
	return stream, stop, nil
}

// hangUp ends what either side of the call waits for. Close alone would only
// tell the other side, and wait for it to agree.
func hangUp(stream *yamux.Stream) {
	_ = stream.SetDeadline(time.Unix(1, 0))
	_ = stream.Close()
}

func receive(ctx context.Context, dec *json.Decoder, into any) (more bool, err error) {
	var e envelope
	if err := dec.Decode(&e); err != nil {
		return false, brokenOff(ctx, err)
	}
	if e.Error != "" && ctx.Err() != nil {
		return false, context.Cause(ctx) // the other side says no more than that we hung up
	}
	if e.Error != "" {
		return false, &RemoteError{e.Error}
	}
	if len(e.Value) == 0 {
		return e.More, nil
	}
	return e.More, json.Unmarshal(e.Value, into)
}

// brokenOff says why a call got no further: the caller's own wish, or the
// connection. The end of a stream is never the end of an answer.
func brokenOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the connection broke off: %w", err)
}
