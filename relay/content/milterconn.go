package content

import (
	"context"
	"io"
	"net"
	"time"
)

// milterDialer connects until ctx ends.
type milterDialer struct {
	ctx context.Context
	to  **milterConn // where the connection is put, too
}

// Dial implements milter.Dialer.
func (d milterDialer) Dial(network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &milterConn{Conn: conn}
	c.until(d.ctx)
	*d.to = c
	return c, nil
}

// maxMilterAnswers bounds what one filter may answer about one step of a session, in octets. A
// body in place of the message's own is an answer, too.
const maxMilterAnswers = 4 << 20

// farewell is how long a filter has to be told that a message or a session is over.
const farewell = time.Second

// milterConn is a connection to a filter that is cut off when a step takes too long, or the
// filter talks without end.
type milterConn struct {
	net.Conn
	stop func() bool
	left int
}

// until begins a step, which ends at the latest with ctx.
func (c *milterConn) until(ctx context.Context) (end func()) {
	if c.stop != nil {
		c.stop()
	}
	c.left, c.stop = maxMilterAnswers, context.AfterFunc(ctx, func() { c.Conn.Close() })
	return func() { c.stop() }
}

// soon begins a step that nobody waits for.
func (c *milterConn) soon() (end func()) {
	timer := time.AfterFunc(farewell, func() { c.Conn.Close() })
	return func() { timer.Stop() }
}

// drop closes the connection, if there is one.
func (c *milterConn) drop() {
	if c != nil {
		c.Conn.Close()
	}
}

func (c *milterConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
