// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The protocol of UML's management console, from the kernel's
// arch/um/drivers/mconsole.h: one datagram each way in host byte order.
const (
	mconsoleMagic   = 0xcafebabe
	mconsoleVersion = 2
	mconsoleData    = 512
	mconsoleWithin  = 5 * time.Second // a machine that is up answers within milliseconds
)

type mconsoleRequest struct {
	Magic, Version, Length uint32
	Data                   [mconsoleData]byte
}

// mconsoleHeader comes before the text of an answer.
type mconsoleHeader struct{ Err, More, Length uint32 }

// mconsole gives a machine's management console one command.
func mconsole(ctx context.Context, socket, command string) error {
	fail := func(err error) error {
		return fmt.Errorf("tell %s %q: %w: is the machine hung? then kill it", socket, command, err)
	}
	ctx, cancel := context.WithTimeout(ctx, mconsoleWithin)
	defer cancel()
	// A path of its own: UML answers to the sender's path, and abstract names
	// do not cross network namespaces.
	dir, err := os.MkdirTemp("", "muster-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an empty directory in the temporary one
	conn, err := net.DialUnix("unixgram",
		&net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fail(err)
	}
	defer conn.Close() //nolint:errcheck // a datagram socket has nothing to flush
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return fail(err)
		}
	}
	if _, err := conn.Write(encodeMconsole(command)); err != nil {
		return fail(err)
	}
	answer := make([]byte, binary.Size(mconsoleHeader{})+mconsoleData)
	n, err := conn.Read(answer)
	if err != nil {
		return fail(err)
	}
	if err := decodeMconsole(answer[:n]); err != nil {
		return fail(err)
	}
	return nil
}

func encodeMconsole(command string) []byte {
	r := mconsoleRequest{Magic: mconsoleMagic, Version: mconsoleVersion, Length: uint32(copy(make([]byte, mconsoleData-1), command))}
	copy(r.Data[:], command[:r.Length])
	// Encoding a struct of fixed size into memory cannot end in an error.
	out, _ := binary.Append(nil, binary.NativeEndian, r)
	return out
}

// decodeMconsole gives the error that the machine answered with, if any.
func decodeMconsole(data []byte) error {
	var h mconsoleHeader
	n, err := binary.Decode(data, binary.NativeEndian, &h)
	if err != nil {
		return fmt.Errorf("answer of %d bytes: %w", len(data), err)
	}
	if h.Err == 0 {
		return nil
	}
	return fmt.Errorf("refused: %s", strings.TrimSpace(string(bytes.TrimRight(data[n:], "\x00"))))
}
