// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

// counter counts writes, each of which takes what has gathered meanwhile.
type counter struct {
	bytes.Buffer
	writes int
}

func (c *counter) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

func TestPipeGathersSmallWrites(t *testing.T) {
	p := newPipe()
	want := bytes.Repeat([]byte("0123456789"), 1000)
	for chunk := range 100 {
		if _, err := p.Write(want[chunk*100 : chunk*100+100]); err != nil {
			t.Fatal(err)
		}
	}
	p.finish(nil)
	var out counter
	if n, err := p.WriteTo(&out); n != int64(len(want)) || err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("moved %d bytes, %v", n, err)
	}
	if out.writes != 1 {
		t.Errorf("%d writes for what had gathered; want 1", out.writes)
	}
}

func TestPipeMovesEverythingInOrder(t *testing.T) {
	want := make([]byte, 3*pipeSize+17)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	for name, read := range map[string]func(*pipe) ([]byte, error){
		"Read":    func(p *pipe) ([]byte, error) { return io.ReadAll(iotest.HalfReader(p)) },
		"WriteTo": func(p *pipe) ([]byte, error) { var b bytes.Buffer; _, err := p.WriteTo(&b); return b.Bytes(), err },
	} {
		p := newPipe()
		go func() {
			_, err := p.ReadFrom(iotest.DataErrReader(bytes.NewReader(want)))
			p.finish(err)
		}()
		got, err := read(p)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
}

func TestPipeEnds(t *testing.T) {
	ended, broken := errors.New("ended"), errors.New("broken")
	t.Run("finish keeps what is there", func(t *testing.T) {
		p := newPipe()
		_, _ = p.Write([]byte("x"))
		p.finish(ended)
		if got, err := io.ReadAll(p); string(got) != "x" || !errors.Is(err, ended) {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := p.Write([]byte("y")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write after the end: %v", err)
		}
	})
	t.Run("fail releases both sides", func(t *testing.T) {
		p, full := newPipe(), newPipe()
		_, _ = full.Write(make([]byte, pipeSize))
		ends := make(chan error, 2)
		go func() { _, err := p.Read(make([]byte, 1)); ends <- err }()
		go func() { _, err := full.Write([]byte("more")); ends <- err }()
		time.Sleep(10 * time.Millisecond) // both are most likely blocked by now; the test holds if not
		p.fail(broken)
		full.fail(broken)
		for range 2 {
			if err := <-ends; !errors.Is(err, broken) {
				t.Errorf("released with %v", err)
			}
		}
		if _, err := full.Read(make([]byte, 1)); !errors.Is(err, broken) {
			t.Errorf("what was there outlived a failure: %v", err)
		}
	})
	t.Run("a broken source", func(t *testing.T) {
		if _, err := newPipe().ReadFrom(iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTailKeepsTheEnd(t *testing.T) {
	var all tail
	var want []byte
	for i := range 3 * tailSize / 1000 {
		part := bytes.Repeat([]byte{byte(i)}, 1000)
		want = append(want, part...)
		_, _ = all.Write(part)
	}
	if got := all.bytes(); !bytes.Equal(got, want[len(want)-tailSize:]) {
		t.Errorf("kept %d bytes, not the last %d", len(got), tailSize)
	}
}

func TestReasonThroughABastion(t *testing.T) {
	// Texts of OpenSSH's server for one code, SSH_OPEN_CONNECT_FAILED.
	for text, want := range map[string]Reason{
		"Connection refused": Refused, "Connection timed out": Timeout, "No route to host": NoRoute,
		"Network is unreachable": NoRoute, "Name or service not known": NoName, "open failed": OtherReason,
	} {
		if got := reasonThrough(text); got != want {
			t.Errorf("%q: %s; want %s", text, got, want)
		}
	}
}
