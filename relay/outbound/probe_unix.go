//go:build unix

package outbound

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// probe looks at a socket without waiting and without taking anything from it.
type probe struct{ socket syscall.RawConn }

func newProbe(c net.Conn) probe {
	s, ok := c.(syscall.Conn)
	if !ok {
		return probe{}
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return probe{}
	}
	return probe{socket}
}

// readable tells whether the peer has sent something, its end or a reset included.
func (p probe) readable() bool {
	if p.socket == nil {
		return false
	}
	var there bool
	err := p.socket.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		there = err != unix.EAGAIN && err != unix.EINTR
	})
	return there || err != nil
}
