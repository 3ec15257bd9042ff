//go:build unix

package outbound

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// probe looks at a socket without waiting and without taking anything from it.
type probe struct {
	socket syscall.RawConn
	peek   func(fd uintptr)
	there  bool // what peek saw
}

func newProbe(c net.Conn) *probe {
	p := new(probe)
	if s, ok := c.(syscall.Conn); ok {
		p.socket, _ = s.SyscallConn() // nil: nothing to see
	}
	p.peek = func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		p.there = err != unix.EAGAIN && err != unix.EINTR
	}
	return p
}

// readable tells whether the peer has sent something, its end or a reset included.
func (p *probe) readable() bool {
	if p.socket == nil {
		return false
	}
	err := p.socket.Control(p.peek)
	return err != nil || p.there
}
