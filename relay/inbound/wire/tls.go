package wire

import (
	"crypto/tls"
	"io"
	"time"

	"tacet/queue"
)

// handshake turns TLS on. If that fails, the connection says nothing more: a
// reply in the clear would be one that an attacker could have wanted (RFC 3207 §4.1 leaves it open).
func (c *Conn) handshake() bool {
	c.following()
	_ = c.raw.SetDeadline(time.Now().Add(c.set.HandshakeTimeout))
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	t := tls.Server(c.raw, c.set.TLS)
	if err := t.Handshake(); err != nil {
		c.handshakeFailed(t, err)
		return false
	}
	c.set.Counters.HandshakesOK.Add(1)
	c.nc, c.tlsc = t, t
	state := t.ConnectionState()
	c.tls = queue.TLS{Version: state.Version, Cipher: state.CipherSuite}
	if c.trace != nil {
		c.remark(string(c.protection()))
	}
	return true
}

func (c *Conn) handshakeFailed(t *tls.Conn, err error) {
	c.out = c.out[:0]
	c.ending = true
	if c.stop.Load() || c.aborted.Load() {
		return
	}
	c.set.Counters.HandshakesFailed.Add(1)
	if c.trace != nil {
		c.remark("(TLS failed: " + err.Error() + ")")
	}
	// One that connects and leaves without a word is a port check, not a failure.
	if left := err == io.EOF && t.ConnectionState().Version == 0; !left && c.set.TLSFailed != nil {
		c.set.TLSFailed(c)
	}
}

// startTLS answers STARTTLS and does the handshake.
func (c *Conn) startTLS() {
	switch {
	case c.tlsc != nil:
		c.fail(replyTLSAlready)
		return
	case c.set.TLS == nil:
		c.fail(replyNoTLS)
		return
	case c.hello != helloExtended:
		c.fail(replyHello)
		return
	case c.r < c.w:
		// What was sent along in the clear may be an attacker's (CVE-2011-0411).
		c.set.Counters.BadCommands.Add(1)
		c.hangUp(replyTLSAhead)
		return
	}
	c.out = append(c.out, replyStartTLS...)
	if c.flush() != nil {
		c.ending = true
		return
	}
	c.giveBack()
	if !c.handshake() {
		return
	}
	// RFC 3207 §4.2: all that was said before is forgotten.
	c.hello = helloNone
	c.giveUp()
}
