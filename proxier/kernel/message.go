// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// message is a netlink message from the kernel.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	body  []byte
}

// errno is the error an NLMSG_ERROR carries; 0 acknowledges.
func (m message) errno() unix.Errno {
	if len(m.body) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
}

// parseMessages splits what one read returned. The bodies are parts of buf.
func parseMessages(buf []byte) ([]message, error) {
	var list []message
	for len(buf) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(buf))
		if size < unix.NLMSG_HDRLEN || size > len(buf) {
			return nil, fmt.Errorf("netlink message of %d bytes in a rest of %d", size, len(buf))
		}
		list = append(list, message{
			kind:  binary.NativeEndian.Uint16(buf[4:]),
			flags: binary.NativeEndian.Uint16(buf[6:]),
			seq:   binary.NativeEndian.Uint32(buf[8:]),
			body:  buf[unix.NLMSG_HDRLEN:size],
		})
		buf = buf[min(align(size), len(buf)):]
	}
	return list, nil
}

// parseAttrs reads a list of attributes. Of several with one number the last
// counts; the families used here have none.
func parseAttrs(buf []byte) (map[uint16][]byte, error) {
	list := map[uint16][]byte{}
	for len(buf) >= unix.NLA_HDRLEN {
		size := int(binary.NativeEndian.Uint16(buf))
		if size < unix.NLA_HDRLEN || size > len(buf) {
			return nil, fmt.Errorf("netlink attribute of %d bytes in a rest of %d", size, len(buf))
		}
		kind := binary.NativeEndian.Uint16(buf[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		list[kind] = buf[unix.NLA_HDRLEN:size]
		buf = buf[min(align(size), len(buf)):]
	}
	return list, nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attrs writes attributes.
type attrs struct{ buf []byte }

func (a *attrs) header(kind uint16, size int) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(unix.NLA_HDRLEN+size))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
}

func (a *attrs) bytes(kind uint16, v []byte) {
	a.header(kind, len(v))
	a.buf = append(a.buf, v...)
	a.pad()
}

func (a *attrs) pad() {
	for len(a.buf)%unix.NLA_ALIGNTO != 0 {
		a.buf = append(a.buf, 0)
	}
}

func (a *attrs) u16(kind, v uint16) {
	a.header(kind, 2)
	a.buf = binary.NativeEndian.AppendUint16(a.buf, v)
	a.pad()
}

func (a *attrs) be16(kind, v uint16) {
	a.header(kind, 2)
	a.buf = binary.BigEndian.AppendUint16(a.buf, v)
	a.pad()
}

func (a *attrs) u32(kind uint16, v uint32) {
	a.header(kind, 4)
	a.buf = binary.NativeEndian.AppendUint32(a.buf, v)
}

func (a *attrs) be32(kind uint16, v uint32) {
	a.header(kind, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, v)
}

// nest starts an attribute of attributes; its end needs what nest returns.
func (a *attrs) nest(kind uint16) int {
	at := len(a.buf)
	a.header(kind|unix.NLA_F_NESTED, 0)
	return at
}

func (a *attrs) unnest(at int) {
	binary.NativeEndian.PutUint16(a.buf[at:], uint16(len(a.buf)-at))
}
