// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// socketSize is that of a socket's buffers, in bytes.
const socketSize = 4 << 20

// answerTimeout bounds the wait for an answer that is already there when the
// send returns: the kernel works on netlink messages in the sender's context.
const answerTimeout = 30 * time.Second

// wire carries netlink messages to the kernel and back.
type wire interface {
	send([]byte) error
	receive([]byte) (int, error)
	close() error
}

// socket is the real wire: a file descriptor.
type socket int

func openSocket() (wire, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	s := socket(fd)
	if err := s.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up a netlink socket: %w", err), s.close())
	}
	return s, nil
}

func (s socket) setUp() error {
	fd, timeout := int(s), unix.NsecToTimeval(int64(answerTimeout))
	return errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketSize),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketSize),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		// Errors without a copy of the message they are about.
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
	)
}

func (s socket) send(b []byte) error {
	return unix.Sendto(int(s), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (s socket) receive(b []byte) (int, error) {
	n, _, err := unix.Recvfrom(int(s), b, 0)
	return n, err
}

func (s socket) close() error { return unix.Close(int(s)) }
