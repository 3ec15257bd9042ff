package outbound

import (
	"bufio"
	"context"
	"net"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// conn is one connection to a next hop. It is used by one goroutine at a time;
// kill alone may be called from others.
type conn struct {
	as    introduction
	named bool // the server takes the session for that client's

	client *Client
	dest   queue.Destination
	hop    relay.Hop
	raw    net.Conn // the socket
	net    net.Conn // raw, or TLS over it
	probe  *probe   // of raw

	peer    peer
	tls     queue.TLS
	waived  bool             // it is under no policy of the domain
	certain bool             // the host's name is the domain's own word (RFC 8689 §4.2.1)
	failure relay.TLSFailure // of the certificate, where the verdict doesn't decide
	born    time.Time

	most    int           // transactions that the configuration allows
	primary bool          // it gets lines of any length
	mails   int           // transactions begun
	kept    bool          // it comes from the pool
	rested  time.Duration // how long it waited there
	reset   bool          // a transaction was left unfinished: RSET is owed
	dead    bool          // of no more use

	killed atomic.Bool
	killer func()      // kill
	stop   func() bool // ends the watch over ctx; nil: none

	trace relay.Trace // nil: nobody follows

	idle idleState // the pool's

	*buffers // nil while the connection waits in the pool
}

// buffers is the memory that a connection borrows while it is at work.
type buffers struct {
	in    *bufio.Reader
	out   []byte
	block []byte // for content that is streamed; made when needed
	reply reply
}

func newBuffers() any {
	return &buffers{in: bufio.NewReaderSize(nil, maxReplyLine), out: make([]byte, 0, blockSize/4)}
}

// streamBlock is memory to read content into.
func (b *buffers) streamBlock() []byte {
	if b.block == nil {
		b.block = make([]byte, blockSize)
	}
	return b.block
}

// borrow gives the connection its memory back before work.
func (c *conn) borrow() {
	c.buffers = c.client.buffers.Get().(*buffers)
	c.in.Reset(c.net)
}

// handBack lets go of the memory.
func (c *conn) handBack() {
	if c.buffers == nil {
		return
	}
	c.in.Reset(nil)
	c.out = c.out[:0]
	c.client.buffers.Put(c.buffers)
	c.buffers = nil
}

// usable tells whether another transaction may begin.
func (c *conn) usable() bool {
	most := c.most
	if c.peer.maxMails > 0 {
		most = min(most, c.peer.maxMails)
	}
	return !c.dead && !c.killed.Load() && c.mails < most
}

// maxRecipients is how many recipients one transaction may have.
func (c *conn) maxRecipients() int {
	most := c.client.config.MaxRecipients
	if c.peer.maxRcpts > 0 {
		most = min(most, c.peer.maxRcpts)
	}
	return most
}

// watch makes the end of ctx the end of the connection, until unwatch.
func (c *conn) watch(ctx context.Context) {
	if c.stop == nil && ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, c.killer)
	}
}

// unwatch returns false if ctx has ended already.
func (c *conn) unwatch() bool {
	if c.stop == nil {
		return true
	}
	ok := c.stop()
	c.stop = nil
	return ok
}

// kill ends the connection at once, whatever it waits for.
func (c *conn) kill() {
	c.killed.Store(true)
	c.raw.Close()
}

// close ends the connection. It says QUIT if it can, but doesn't wait for the answer:
// the peer owes us nothing any more.
func (c *conn) close() {
	c.unwatch()
	c.unfollow()
	if !c.dead && !c.killed.Load() {
		c.net.SetWriteDeadline(time.Now().Add(time.Second))
		c.net.Write(quit)
	}
	c.raw.Close()
	c.handBack()
	c.client.pool.forget(c)
}

var quit = []byte("QUIT\r\n")

// failed is what a failed read or write comes to.
func (c *conn) failed(stage queue.Stage, err error) *fault {
	c.dead = true
	if c.killed.Load() {
		return broken(stage, queue.CauseShutdown, err)
	}
	return broken(stage, ioCause(err), err)
}

// write writes b within limit.
func (c *conn) write(stage queue.Stage, b []byte, limit time.Duration) *fault {
	c.net.SetWriteDeadline(time.Now().Add(limit))
	if _, err := c.net.Write(b); err != nil {
		return c.failed(stage, err)
	}
	return nil
}

// read reads one reply, whole within limit. Where some of it is here already,
// the limit of the reply before it counts on.
func (c *conn) read(stage queue.Stage, limit time.Duration, each func([]byte)) (*reply, *fault) {
	if c.in.Buffered() == 0 {
		c.net.SetReadDeadline(time.Now().Add(limit))
	}
	if c.trace != nil {
		each = c.hearing(stage, each)
	}
	if err := c.reply.read(c.in, each); err != nil {
		return nil, c.failed(stage, err)
	}
	if c.reply.code == 421 { // RFC 5321 §3.8: the peer closes
		c.dead = true
	}
	return &c.reply, nil
}

// ask writes one command and reads its reply.
func (c *conn) ask(stage queue.Stage, command []byte, each func([]byte)) (*reply, *fault) {
	limit := c.client.config.Timeouts.Command
	c.said(stage, command)
	if f := c.write(stage, command, limit); f != nil {
		return nil, f
	}
	return c.read(stage, limit, each)
}

// inStep tells whether the peer has said no more than it was asked for.
func (c *conn) inStep() bool { return c.in.Buffered() == 0 }

// quiet tells whether the peer has neither said anything nor hung up since the last
// reply, as far as this machine knows. It doesn't wait.
func (c *conn) quiet() bool {
	if !c.inStep() || c.probe.readable() {
		return false
	}
	if c.net == c.raw {
		return true
	}
	// TLS may have read on beyond the last reply.
	c.net.SetReadDeadline(time.Unix(1, 0))
	_, err := c.in.Peek(1)
	return err != nil && ioCause(err) == queue.CauseTimeout
}

// spoke tells whether the peer has said something, or hung up, while it was
// our turn. What comes in may also be TLS's own business, such as new keys: then it waits
// a little, and no.
func (c *conn) spoke() bool {
	if !c.inStep() {
		return true
	}
	if !c.probe.readable() {
		return false
	}
	c.net.SetReadDeadline(time.Now().Add(lastWords))
	_, err := c.in.Peek(1)
	return err == nil || ioCause(err) != queue.CauseTimeout
}

// outOfStep is the fault of a peer that says what it was not asked for.
func (c *conn) outOfStep(stage queue.Stage) *fault {
	c.dead = true
	return broken(stage, queue.CauseProtocol, errOutOfStep)
}
