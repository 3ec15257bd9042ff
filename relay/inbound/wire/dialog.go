package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
)

// What go-smtp gets to read. The client's own words never reach it: paths and
// parameters are kept in Mail and Rcpt for the session.
var (
	feedHello  = []byte("HELO client\r\n") // its reply is shorter than that to EHLO, and as unheard
	feedMail   = []byte("MAIL FROM:<sender@client>\r\n")
	feedRcpt   = []byte("RCPT TO:<recipient@client>\r\n")
	feedData   = []byte("DATA\r\n")
	feedEnd    = []byte(".\r\n")
	feedReset  = []byte("RSET\r\n")
	feedCancel = []byte("*\r\n")
)

// next finds what go-smtp is to read next, and answers on the way all that
// go-smtp is not needed for. It returns io.EOF when the connection ends.
func (c *Conn) next() error {
	if c.ending {
		return io.EOF
	}
	switch c.phase {
	case phaseContent:
		return c.endContent()
	case phaseSASL:
		return c.saslLine()
	}
	c.expect = expectNothing
	for !c.ending {
		if !c.open && c.stop.Load() {
			return c.lost(errStopping)
		}
		line, err := c.line(!c.open)
		if err == errControl {
			c.fail(replyControl)
			continue
		}
		if err != nil {
			return c.lost(err)
		}
		c.command(line)
		if len(c.out) > flushAt {
			if err := c.flush(); err != nil {
				return c.lost(err)
			}
		}
		if len(c.feed) > 0 && !c.ending {
			return nil
		}
		if c.Eager && !c.attached && c.hello != helloNone && c.r == c.w && !c.ending {
			if err := c.flush(); err != nil {
				return c.lost(err)
			}
			return errGreeted
		}
	}
	return io.EOF
}

// errGreeted ends [Conn.Converse] before go-smtp is needed.
var errGreeted = errors.New("the client has greeted")

// Write takes a reply of go-smtp, one whole line at a time, and puts ours in
// its place. What the session refused passes as it is: those texts are fixed too.
func (c *Conn) Write(p []byte) (n int, err error) {
	defer c.contain(&err)
	n = len(p)
	if n == 0 {
		return 0, nil
	}
	good := p[0] == '2' || p[0] == '3'
	switch c.expect {
	case expectNothing:
	case expectMail:
		c.open = good
		if good {
			c.out = append(c.out, replyMail...)
		} else {
			c.refuse(p)
		}
	case expectRcpt:
		if good {
			c.rcpts++
			c.out = append(c.out, replyRcpt...)
		} else {
			c.refuse(p)
		}
	case expectData:
		c.phase, c.expect = phaseContent, expectFinal
		if !good { // it never refuses: all was checked before
			c.phase = phaseCommand
			c.last(string(p))
		} else if !c.content.chunked {
			c.out = append(c.out, replyData...)
		}
		return n, nil
	case expectFinal:
		c.finalReply(p, good)
	case expectAuth:
		c.authReply(p)
		return n, nil
	}
	c.expect = expectNothing
	return n, nil
}

// refuse passes on a refusal of a sender or recipient. Recipients refused for
// now weigh little: it is the reply to honest clients with many of them.
func (c *Conn) refuse(reply []byte) {
	c.out = append(c.out, reply...)
	if c.expect == expectRcpt && reply[0] == '4' {
		c.deferred++
	} else {
		c.refused++
	}
	if c.refused >= c.set.MaxJunk || c.deferred >= 100*c.set.MaxJunk {
		c.overBudget(replyTooMany)
	}
}

// finalReply ends a transaction.
func (c *Conn) finalReply(p []byte, good bool) {
	c.phase = phaseCommand
	if c.trace != nil {
		c.remark("(content, octets: " + strconv.FormatInt(c.content.size, 10) + ")")
	}
	if !c.content.mute {
		c.out = append(c.out, p...)
	}
	if good {
		c.junk = 0
	}
	c.endTransaction()
}

// endTransaction forgets the envelope.
func (c *Conn) endTransaction() {
	c.open, c.rcpts = false, 0
	c.mail, c.rcpt = Mail{}, Rcpt{}
	c.content = content{}
}

// authReply passes a reply of the SASL dialogue on.
func (c *Conn) authReply(p []byte) {
	c.phase = phaseCommand
	c.forget()
	switch {
	case bytes.HasPrefix(p, []byte("334")):
		c.phase = phaseSASL
		c.out = append(c.out, p...)
		return
	case c.cancel:
		c.cancel = false
		c.fail(replyAuthBase64)
	case p[0] == '2':
		c.authed = true
		c.out = append(c.out, replyAuthed...)
	case bytes.HasPrefix(p, []byte("501 5.0.0")): // go-smtp's word for "*"
		c.fail(replyAuthCancel)
	default:
		c.out = append(c.out, p...)
	}
	c.expect = expectNothing
}

// forget clears the input that was looked at: it holds credentials. Copies of it are
// left where the buffer was compacted or changed.
func (c *Conn) forget() {
	clear(c.in[:c.r])
	clear(c.in[c.w:])
	if c.big != nil {
		clear(c.smallIn[:])
	}
}

// saslLine reads the client's next line of the SASL dialogue.
func (c *Conn) saslLine() error {
	line, err := c.line(true)
	if err == errControl {
		line, err = nil, nil
	} else if err != nil {
		return c.lost(err)
	} else if validBase64(line) || string(line) == "*" {
		c.feed = line[:len(line)+2] // with its CR LF
		return nil
	}
	c.cancel = true
	c.feed = feedCancel
	return err
}

// validBase64 tells whether b is one whole base64 text, or "=" for the empty one.
func validBase64(b []byte) bool {
	if len(b) == 1 && b[0] == '=' || len(b) == 0 {
		return true
	}
	var buf [510]byte // a multiple of 3, so that none is left over
	for len(b) > 0 {
		n := min(len(b), base64.StdEncoding.EncodedLen(len(buf)))
		n -= n % 4
		if n == 0 {
			return false
		}
		m, err := base64.StdEncoding.Decode(buf[:], b[:n])
		clear(buf[:m])
		b = b[n:]
		if err != nil || len(b) > 0 && m != n/4*3 {
			return false
		}
	}
	return true
}

// fail answers a wrong command. Too many of them end the connection.
func (c *Conn) fail(reply string) {
	c.out = append(c.out, reply...)
	c.set.Counters.BadCommands.Add(1)
	if c.errors++; c.errors >= c.set.MaxErrors {
		c.overBudget(replyTooMany)
	}
}

// idle answers a command that brings no message nearer. Too many in a row end the connection.
func (c *Conn) idle(reply string) {
	c.out = append(c.out, reply...)
	if c.junk++; c.junk >= c.set.MaxJunk {
		c.overBudget(replyTooJunk)
	}
}

func (c *Conn) overBudget(reply string) {
	c.set.Counters.ErrorBudget.Add(1)
	c.hangUp(reply)
}
