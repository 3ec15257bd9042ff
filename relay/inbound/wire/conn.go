package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Conn is one client's connection. [Conn.Converse] and the methods of
// [net.Conn] belong to the one goroutine that runs the session; [Conn.Stop] and
// [Conn.Abort] may be called by others.
type Conn struct {
	set    *Settings
	raw    net.Conn // the socket
	nc     net.Conn // what is read and written: the socket, or TLS on it
	tlsc   *tls.Conn
	tls    queue.TLS
	client netip.Addr

	// OnClose is called once, when the connection is closed. Set before Converse.
	OnClose func()

	// Eager hands the connection to go-smtp while the client reads the reply to
	// its greeting: the session's first transaction begins sooner, and an
	// idle one takes twice the memory. Set before Converse.
	Eager bool

	in      []byte // the client's octets; small, or all of big
	r, w    int    // in[r:w] is yet to be looked at
	scanned int    // in[r:scanned] holds no LF
	big     *[bigBuffer]byte
	out     []byte    // replies yet to be written
	readBy  time.Time // the read deadline as it is set
	writeBy time.Time

	feed   []byte // what go-smtp reads next
	then   []byte // the command that go-smtp was attached for
	expect expect // what go-smtp's next reply answers
	answer expect // what the reply to then answers
	phase  phase

	hello    hello
	helo     string // the client's name, if it is kept
	attached bool   // go-smtp serves the connection
	spoken   bool   // a line was read
	authed   bool
	cancel   bool // a "*" of our own ends the SASL dialogue
	ending   bool // after what is in out, the connection ends
	talking  bool // the connection ends although the client may be talking
	mail     Mail // of the open transaction
	open     bool // MAIL was accepted
	rcpt     Rcpt // the RCPT under way
	rcpts    int  // recipients accepted
	errors   int  // wrong commands
	junk     int  // commands without use
	refused  int  // senders and recipients refused
	deferred int  // recipients refused for now
	content  content

	trace relay.Trace // nil: nobody follows
	told  int         // octets of out that the trace has
	user  string      // authenticated as

	stop    atomic.Bool // 421 as soon as no transaction is open
	aborted atomic.Bool // the socket was closed by another goroutine
	closed  atomic.Bool

	smallIn  [smallBuffer]byte
	smallOut [smallBuffer]byte
}

// An idle connection holds two small buffers in itself. A big one is borrowed
// for content and for long lines, and given back before the next idle wait.
const (
	smallBuffer = 512
	bigBuffer   = 64 << 10
)

// hello tells how the client introduced itself.
type hello uint8

const (
	helloNone hello = iota
	helloPlain
	helloExtended
)

// expect tells what go-smtp's next reply answers.
type expect uint8

const (
	expectNothing expect = iota // what it writes is dropped
	expectMail
	expectRcpt
	expectData
	expectFinal
	expectAuth
)

// phase tells what the client's next octets are.
type phase uint8

const (
	phaseCommand phase = iota
	phaseSASL
	phaseContent
)

// New makes a Conn of a socket just accepted.
func New(raw net.Conn, set *Settings) *Conn {
	c := &Conn{set: set, raw: raw, nc: raw}
	c.in = c.smallIn[:]
	c.out = append(c.smallOut[:0], set.greeting...)
	if a, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
		c.client = a.AddrPort().Addr().Unmap()
	}
	return c
}

// Client is the address of the client, invalid if it has none.
func (c *Conn) Client() netip.Addr { return c.client }

// Helo is the name that the client gave itself, unchecked, if Settings.KeepHelo says so.
func (c *Conn) Helo() string { return c.helo }

// Mail is the MAIL command of the transaction, or of the one that is being asked for.
func (c *Conn) Mail() *Mail { return &c.mail }

// Rcpt is the RCPT command under way.
func (c *Conn) Rcpt() *Rcpt { return &c.rcpt }

// Protocol is the "with" of a Received field (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3).
func (c *Conn) Protocol() string {
	i := 0
	if c.tlsc != nil {
		i |= 1
	}
	if c.authed {
		i |= 2
	}
	switch {
	case c.mail.UTF8:
		return [...]string{"UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"}[i]
	case c.hello == helloPlain && i == 0:
		return "SMTP"
	}
	return [...]string{"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"}[i]
}

// TLS tells how the connection is protected, or why not.
func (c *Conn) TLS() queue.TLS {
	switch {
	case c.tlsc != nil:
		return c.tls
	case c.set.TLS == nil:
		return queue.TLS{None: queue.NoTLSNotOffered}
	}
	return queue.TLS{None: queue.NoTLSNotUsed}
}

// EndAfterReply ends the connection once the reply to the command under way is written.
func (c *Conn) EndAfterReply() { c.hangUp("") }

// Stop asks the connection to end with 421 as soon as no transaction is open;
// one that waits for a command is woken.
func (c *Conn) Stop() {
	c.stop.Store(true)
	// A session that sets its own deadline after this looks at stop afterwards.
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// Abort closes the socket at once. The session finds out by itself.
func (c *Conn) Abort() {
	c.aborted.Store(true)
	_ = c.raw.Close()
}

// Greet sends the greeting ahead of Converse. The buffer of a socket that was
// just accepted takes it without waiting.
func (c *Conn) Greet() {
	if !c.set.Implicit {
		_ = c.flush() // a connection that is gone shows at the next read
	}
}

// Converse greets the client and answers it until a command comes that go-smtp
// is needed for. It returns false if the connection is to be closed instead.
func (c *Conn) Converse() (attach bool) {
	defer c.contain(nil)
	if c.set.Implicit && !c.handshake() {
		return false
	}
	if c.set.Pause > 0 && !c.waits() {
		return false
	}
	switch c.next() {
	case nil:
	case errGreeted:
		return true
	default:
		return false
	}
	c.then, c.feed = c.feed, nil
	c.answer, c.expect = c.expect, expectNothing
	return true
}

// waits pauses before the greeting, and tells whether the client waits for it
// as a mail server does (RFC 5321 §4.3.1).
func (c *Conn) waits() bool {
	c.readBy = time.Now().Add(c.set.Pause)
	_ = c.raw.SetReadDeadline(c.readBy)
	n, err := c.nc.Read(c.in[c.w:])
	switch {
	case n > 0:
		c.out = c.out[:0]
		c.set.Counters.Early.Add(1)
		if c.set.Early != nil {
			c.set.Early()
		}
		c.hangUp(replyEarly)
		return false
	case errors.Is(err, os.ErrDeadlineExceeded): // or Stop, which the first line meets
		return true
	}
	c.out = c.out[:0] // it is gone
	return false
}

// Read gives go-smtp its next command line.
func (c *Conn) Read(p []byte) (n int, err error) {
	defer c.contain(&err)
	switch {
	case !c.attached:
		// go-smtp wants to be greeted too; it is not told by whom.
		c.attached = true
		c.feed = feedHello
	case len(c.feed) > 0: // the rest of a long line
	case c.then != nil:
		c.feed, c.expect = c.then, c.answer
		c.then = nil
	default:
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n = copy(p, c.feed)
	c.feed = c.feed[n:]
	return n, nil
}

// Close writes what is left to be written and closes the socket.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.unfollow()
	if !c.aborted.Load() && len(c.out) > 0 {
		c.farewell()
	}
	c.giveBack()
	if c.talking && !c.aborted.Load() {
		c.linger()
	}
	var err error
	if c.tlsc != nil && !c.aborted.Load() {
		err = c.tlsc.Close()
	} else {
		err = c.raw.Close()
	}
	if c.OnClose != nil {
		c.OnClose()
	}
	return err
}

// contain ends the connection of a session that panicked in this package.
// go-smtp contains those of its own commands.
func (c *Conn) contain(err *error) {
	if recover() == nil {
		return
	}
	c.set.Counters.Panics.Add(1)
	if c.set.Panicked != nil {
		c.set.Panicked()
	}
	c.out = append(c.out[:0], replyPanic...)
	c.ending = true
	if err != nil {
		*err = io.EOF
	}
}

// The rest of net.Conn: go-smtp has no say in deadlines.

func (c *Conn) LocalAddr() net.Addr              { return c.raw.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr             { return c.raw.RemoteAddr() }
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
