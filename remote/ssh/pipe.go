// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// pipeSize is how much a pipe holds before writers wait: enough for eight SFTP
// packets, so that many small writes leave as few SSH packets.
const pipeSize = 256 << 10

// pipe is a bounded buffer between two goroutines. Unlike io.Pipe it gathers
// small writes, and either side can be released at once with an error.
type pipe struct {
	mu    sync.Mutex
	moved *sync.Cond
	data  bytes.Buffer
	ended bool  // no more is written; what is there may be read
	err   error // what readers get at the end, nil for io.EOF
	gone  error // both sides return this at once
}

func newPipe() *pipe {
	p := &pipe{}
	p.moved = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone != nil:
			return n, p.gone
		case p.ended:
			return n, io.ErrClosedPipe
		case len(b) == 0:
			return n, nil
		case p.data.Len() >= pipeSize:
			p.moved.Wait()
			continue
		}
		part := b[:min(len(b), pipeSize-p.data.Len())]
		p.data.Write(part)
		b = b[len(part):]
		n += len(part)
		p.moved.Broadcast()
	}
}

// ready waits until there is something to read, or nothing will come.
func (p *pipe) ready() error {
	for {
		switch {
		case p.gone != nil:
			return p.gone
		case p.data.Len() > 0:
			return nil
		case p.ended && p.err != nil:
			return p.err
		case p.ended:
			return io.EOF
		}
		p.moved.Wait()
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	if err := p.ready(); err != nil {
		return 0, err
	}
	p.moved.Broadcast()
	return p.data.Read(b)
}

// WriteTo moves what is written to w until the end, with one write for all that
// has gathered.
func (p *pipe) WriteTo(w io.Writer) (n int64, err error) {
	var batch bytes.Buffer
	for {
		p.mu.Lock()
		err := p.ready()
		p.data, batch = batch, p.data
		p.moved.Broadcast()
		p.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := batch.WriteTo(w)
		n += m
		if err != nil {
			return n, err
		}
		batch.Reset()
	}
}

// ReadFrom writes what r gives until it ends.
func (p *pipe) ReadFrom(r io.Reader) (n int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if _, werr := p.Write(buf[:m]); werr != nil {
			return n, werr
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// finish says that no more is written; readers get err at the end.
func (p *pipe) finish(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.err = true, err
	}
	p.moved.Broadcast()
}

// fail releases both sides at once. What was not read is dropped.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone == nil {
		p.gone = err
		p.data.Reset()
	}
	p.moved.Broadcast()
}

// tailSize is how much of a command's standard error is kept.
const tailSize = 64 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if over := len(t.data) - tailSize; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(b), nil
}

// follow reads r to its end. Errors are of no interest: r ends with its session,
// which says how. The buffer is small because a thousand hosts each have one.
func (t *tail) follow(r io.Reader) {
	_, _ = io.CopyBuffer(t, r, make([]byte, 2<<10))
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.data)
}
