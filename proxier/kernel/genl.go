// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Sizes in bytes. A send holds as many messages as fit; the kernel copies it
// in one piece, and beyond 128 KiB the gain per message is gone.
const (
	sendSize    = 128 << 10
	receiveSize = 64 << 10
	headerSize  = unix.NLMSG_HDRLEN + unix.GENL_HDRLEN
)

// genl is a generic netlink socket for one family. Not safe for concurrent
// use.
type genl struct {
	wire
	open    func() (wire, error)
	family  uint16
	version uint8
	seq     uint32
	in, out []byte
}

// dialGenl opens a socket and finds the family by name. The kernel loads the
// family's module by itself if it is allowed to.
func dialGenl(family string, version uint8) (*genl, error) {
	w, err := openSocket()
	if err != nil {
		return nil, err
	}
	g := &genl{wire: w, open: openSocket, family: unix.GENL_ID_CTRL, version: 2, in: make([]byte, receiveSize)}
	id, err := g.find(family)
	if err != nil {
		g.close()
		return nil, fmt.Errorf("find netlink family %s: %w", family, err)
	}
	g.family, g.version = id, version
	return g, nil
}

// renew replaces the socket after an error. Answers may be on their way still,
// and while a list was not read to its end, the kernel begins no other.
func (g *genl) renew(after error) error {
	w, err := g.open()
	if err != nil {
		return errors.Join(after, err)
	}
	old := g.wire
	g.wire = w
	return errors.Join(after, old.close())
}

// find asks for the number of a family.
func (g *genl) find(name string) (uint16, error) {
	b := g.batch()
	at := b.begin(unix.CTRL_CMD_GETFAMILY, 0)
	b.bytes(unix.CTRL_ATTR_FAMILY_NAME, append([]byte(name), 0))
	b.end(at)
	var id uint16
	err := g.exchange(b, func(_ uint32, errno unix.Errno) error { return errno }, func(body []byte) error {
		attrs, err := parseAttrs(body)
		if err != nil {
			return err
		}
		if v := attrs[unix.CTRL_ATTR_FAMILY_ID]; len(v) == 2 {
			id = binary.NativeEndian.Uint16(v)
		}
		return nil
	})
	if err == nil && id == 0 {
		err = errors.New("the kernel's answer has no family number")
	}
	return id, err
}

// batch collects messages for one send. A socket has room for one at a time.
type batch struct {
	attrs
	family  uint16
	version uint8
	first   uint32 // sequence number of the first message
	next    uint32
	last    int // where the last message begins
}

func (g *genl) batch() *batch {
	return &batch{attrs: attrs{g.out[:0]}, family: g.family, version: g.version, first: g.seq + 1, next: g.seq + 1}
}

// begin starts a message; its end needs what begin returns.
func (b *batch) begin(cmd uint8, flags uint16) int {
	at := len(b.buf)
	b.last = at
	b.buf = append(b.buf, 0, 0, 0, 0) // length, known at the end
	b.buf = binary.NativeEndian.AppendUint16(b.buf, b.family)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, unix.NLM_F_REQUEST|flags)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, b.next)
	b.buf = append(b.buf, 0, 0, 0, 0) // port: the kernel fills it in
	b.buf = append(b.buf, cmd, b.version, 0, 0)
	b.next++
	return at
}

func (b *batch) end(at int) {
	binary.NativeEndian.PutUint32(b.buf[at:], uint32(len(b.buf)-at))
}

// acknowledge asks for an answer to the last message. Errors are always
// answered, so that one answer says that all before it are done.
func (b *batch) acknowledge() {
	flags := binary.NativeEndian.Uint16(b.buf[b.last+6:])
	binary.NativeEndian.PutUint16(b.buf[b.last+6:], flags|unix.NLM_F_ACK)
}

func (b *batch) full() bool { return len(b.buf) > sendSize-1024 }

// exchange sends a batch and reads until its last message is answered.
// refused gets the position and error of each refused message and may end the
// exchange by returning an error; data gets the attributes of each message
// that carries some.
func (g *genl) exchange(b *batch, refused func(n uint32, errno unix.Errno) error, data func([]byte) error) error {
	b.acknowledge()
	g.seq, g.out = b.next-1, b.buf
	if err := g.put(b.buf); err != nil {
		return g.renew(err)
	}
	for {
		messages, err := g.get()
		if err != nil {
			return g.renew(err)
		}
		done, err := b.answers(messages, refused, data)
		if done || err != nil {
			return err
		}
	}
}

func (b *batch) answers(messages []message, refused func(uint32, unix.Errno) error, data func([]byte) error) (done bool, err error) {
	for _, m := range messages {
		if int32(m.seq-b.first) < 0 {
			continue // answers a batch that was given up
		}
		switch m.kind {
		case unix.NLMSG_ERROR:
			if errno := m.errno(); errno != 0 {
				err = errors.Join(err, refused(m.seq-b.first, errno))
			}
			done = done || m.seq == b.next-1
		default:
			if len(m.body) >= unix.GENL_HDRLEN {
				err = errors.Join(err, data(m.body[unix.GENL_HDRLEN:]))
			}
		}
	}
	return done, err
}

// dump sends one request and hands every part of the answer to data. The
// kernel marks answers that changed while it wrote them; those are asked for
// again, at most thrice.
func (g *genl) dump(cmd uint8, reset func(), data func([]byte) error) error {
	return g.dumpAbout(cmd, func(*batch) {}, reset, data)
}

// dumpAbout is dump for one of several lists: about adds to the request which.
func (g *genl) dumpAbout(cmd uint8, about func(*batch), reset func(), data func([]byte) error) error {
	for range 3 {
		reset()
		torn, err := g.dumpOnce(cmd, about, data)
		if err != nil || !torn {
			return err
		}
	}
	return errors.New("the kernel's list changed three times while it was read; is another program rewriting IPVS?")
}

func (g *genl) dumpOnce(cmd uint8, about func(*batch), data func([]byte) error) (torn bool, err error) {
	b := g.batch()
	at := b.begin(cmd, unix.NLM_F_DUMP)
	about(b)
	b.end(at)
	g.seq = b.next - 1
	if err := g.put(b.buf); err != nil {
		return false, g.renew(err)
	}
	for {
		messages, err := g.get()
		if err != nil {
			return false, g.renew(err)
		}
		for _, m := range messages {
			if m.seq != g.seq {
				continue
			}
			torn = torn || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.kind == unix.NLMSG_DONE:
				return torn, nil
			case m.kind == unix.NLMSG_ERROR:
				return torn, m.errno()
			case len(m.body) >= unix.GENL_HDRLEN:
				if err := data(m.body[unix.GENL_HDRLEN:]); err != nil {
					return torn, g.renew(err)
				}
			}
		}
	}
}

func (g *genl) put(buf []byte) error {
	for {
		err := g.send(buf)
		if !errors.Is(err, unix.EINTR) {
			return wrap("send to the kernel", err)
		}
	}
}

func (g *genl) get() ([]message, error) {
	for {
		n, err := g.receive(g.in)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, wrap("receive from the kernel", err)
		}
		return parseMessages(g.in[:n])
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
