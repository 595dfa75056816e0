// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// console is a machine's management console that answers each command as told
// and remembers it.
type console struct {
	socket   string
	commands chan string
}

func newConsole(t *testing.T, answer func(command string) (code uint32, text string, reply bool)) console {
	t.Helper()
	c := console{filepath.Join(t.TempDir(), "m"), make(chan string, 8)}
	conn := must[*net.UnixConn](t)(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: c.socket, Net: "unixgram"}))
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUnix(buf)
			if err != nil {
				return
			}
			var r mconsoleRequest
			if _, err := binary.Decode(buf[:n], binary.NativeEndian, &r); err != nil || r.Magic != 0xcafebabe || r.Version != 2 || n != 524 {
				c.commands <- "malformed"
				continue
			}
			command := string(r.Data[:r.Length])
			c.commands <- command
			code, text, reply := answer(command)
			if reply {
				head, _ := binary.Append(nil, binary.NativeEndian, mconsoleHeader{Err: code, Length: uint32(len(text))})
				_, _ = conn.WriteToUnix(append(head, text...), from)
			}
		}
	}()
	return c
}

func TestMconsole(t *testing.T) {
	c := newConsole(t, func(command string) (uint32, string, bool) {
		if command == "cad" {
			return 0, "\x00", true // what UML answers when there is nothing to say
		}
		return 1, "Unknown command\n\x00", true
	})
	if err := mconsole(t.Context(), c.socket, "cad"); err != nil {
		t.Error(err)
	}
	if got := <-c.commands; got != "cad" {
		t.Errorf("the machine read %q", got)
	}
	err := mconsole(t.Context(), c.socket, "dance")
	if err == nil || !strings.Contains(err.Error(), "refused: Unknown command: is") {
		t.Errorf("got %v", err)
	}
}

func TestMconsoleOfAHungMachine(t *testing.T) {
	c := newConsole(t, func(string) (uint32, string, bool) { return 0, "", false })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := mconsole(ctx, c.socket, "cad"); err == nil || time.Since(begun) > 2*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
	if err := mconsole(t.Context(), filepath.Join(t.TempDir(), "none"), "cad"); err == nil {
		t.Error("no socket, no error")
	}
}

func TestMconsoleCommandIsCutToItsField(t *testing.T) {
	long := encodeMconsole(strings.Repeat("x", 2000))
	if want := 12 + mconsoleData; len(long) != want || !bytes.HasSuffix(long, []byte{'x', 0}) {
		t.Errorf("%d bytes ending in %q", len(long), long[len(long)-2:])
	}
}

func FuzzDecodeMconsole(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 13))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := decodeMconsole(data); err == nil && len(data) < 12 {
			t.Error("half an answer was taken for a good one")
		}
	})
}
