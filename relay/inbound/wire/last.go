package wire

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// lastWords is how long a client may take to read the last replies.
const lastWords = 5 * time.Second

// farewell writes what is left to be written before the socket is closed.
// In the clear the end of the connection travels with it in one packet.
func (c *Conn) farewell() {
	_ = c.raw.SetWriteDeadline(time.Now().Add(lastWords))
	if socket, ok := c.raw.(*net.TCPConn); ok && c.tlsc == nil && !c.talking {
		_ = writeWithEnd(socket, c.out)
		return
	}
	_, _ = c.nc.Write(c.out)
}

// writeWithEnd hands b to a socket that is about to be closed: the kernel holds
// its last part back until then.
func writeWithEnd(socket *net.TCPConn, b []byte) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	wrote := raw.Write(func(fd uintptr) bool {
		for len(b) > 0 && err == nil {
			var n int
			n, err = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch err {
			case nil:
				b = b[n:]
			case unix.EINTR:
				err = nil
			case unix.EAGAIN:
				err = nil
				return false // called again when there is room
			}
		}
		return true
	})
	return errors.Join(err, wrote)
}
