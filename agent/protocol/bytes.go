// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// Bytes travel as chunks: four bytes of length, big endian, then as many bytes
// of content. The length 0 is followed by a last envelope. A yamux stream that
// broke off ends like one that was closed, so without it half a blob would look
// like a whole one.
const (
	chunkHeader = 4
	chunkSize   = 64 << 10
)

// Bytes sends an Ack and then r to its end. An error of r reaches the caller.
func (w *Writer) Bytes(r io.Reader) error {
	if err := w.Value(Ack{}); err != nil {
		return err
	}
	chunk := make([]byte, chunkHeader+chunkSize)
	for {
		n, err := r.Read(chunk[chunkHeader:])
		if n > 0 {
			if err := w.chunk(chunk[:chunkHeader+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.lastChunk(envelope{})
		case err != nil:
			return errors.Join(err, w.lastChunk(envelope{Error: err.Error()}))
		}
	}
}

// chunk sends one chunk; its first four bytes are room for the length.
func (w *Writer) chunk(c []byte) error {
	binary.BigEndian.PutUint32(c, uint32(len(c)-chunkHeader))
	_, err := w.stream.Write(c)
	return err
}

func (w *Writer) lastChunk(e envelope) error {
	if err := w.chunk(make([]byte, chunkHeader)); err != nil {
		return err
	}
	return w.enc.Encode(e)
}

// Bytes makes a call that answers with bytes after an Ack. Reading returns
// io.EOF only when the other side said that this was all.
func Bytes(ctx context.Context, s *Session, r Request) (io.ReadCloser, error) {
	stream, stop, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(stream)
	if _, err := receive(ctx, dec, &Ack{}); err != nil {
		stop()
		return nil, err
	}
	// The decoder has read ahead; json.Encoder ended the Ack with a newline.
	rest := io.MultiReader(dec.Buffered(), stream)
	if _, err := io.ReadFull(rest, make([]byte, 1)); err != nil {
		stop()
		return nil, brokenOff(ctx, err)
	}
	return &body{ctx: ctx, rest: rest, stop: stop}, nil
}

// body reads the chunks of one call. It ends with its caller's context.
type body struct {
	ctx  context.Context
	rest io.Reader
	stop func()
	left uint32 // bytes of the current chunk
	err  error  // once there is nothing more to read
}

func (b *body) Read(p []byte) (int, error) {
	if b.err == nil && b.left == 0 {
		b.err = b.next()
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.rest.Read(p[:min(len(p), int(b.left))])
	b.left -= uint32(n)
	if err != nil {
		b.err = brokenOff(b.ctx, err)
	}
	return n, b.err
}

// next reads the length of the next chunk, or what became of the call.
func (b *body) next() error {
	if err := binary.Read(b.rest, binary.BigEndian, &b.left); err != nil {
		return brokenOff(b.ctx, err)
	}
	if b.left > 0 {
		return nil
	}
	if _, err := receive(b.ctx, json.NewDecoder(b.rest), &Ack{}); err != nil {
		return err
	}
	return io.EOF
}

// Close hangs up.
func (b *body) Close() error { b.stop(); return nil }
