package wire

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// split takes a command line apart: the verb in upper case, empty if it is too
// long to be one, and what follows the space after it.
func split(line []byte, buf *[12]byte) (verb, args []byte) {
	word, args, _ := bytes.Cut(line, []byte(" "))
	return upper(buf, word), bytes.TrimRight(args, " ")
}

// command answers one command, or sets feed to what go-smtp is to make of it.
func (c *Conn) command(line []byte) {
	var buf [12]byte
	verb, args := split(line, &buf)
	switch string(verb) {
	case "MAIL":
		c.mailCommand(args)
	case "RCPT":
		c.rcptCommand(args)
	case "DATA":
		c.dataCommand(args)
	case "BDAT":
		c.bdatCommand(args)
	case "EHLO", "HELO":
		c.helloCommand(verb[0] == 'E', args)
	case "RSET":
		if len(args) > 0 {
			c.fail(replyNoArgs)
			return
		}
		c.giveUp()
		c.idle(replyReset)
	case "AUTH":
		c.authCommand(args, line)
	case "STARTTLS":
		if len(args) > 0 { // RFC 3207 §4
			c.fail(replyNoArgs)
			return
		}
		c.startTLS()
	case "ETRN":
		c.etrnCommand(args)
	case "QUIT":
		c.last(replyBye)
	default:
		c.constant(verb)
	}
}

// constant answers the commands whose answer is always the same. It tells
// nothing of who exists here.
func (c *Conn) constant(verb []byte) {
	switch string(verb) {
	case "NOOP":
		c.idle(replyNoop)
	case "VRFY":
		c.idle(replyVrfy)
	case "HELP":
		c.idle(replyHelp)
	case "EXPN", "TURN", "ATRN", "SEND", "SOML", "SAML":
		c.idle(replyExpn)
	case "GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PRI", "PROXY", "XCLIENT", "XFORWARD":
		// Another protocol's client, or what it sends on behalf of a third one (ALPACA).
		c.set.Counters.Foreign.Add(1)
		c.hangUp(replyForeign)
	default:
		if bytes.HasPrefix(verb, []byte("SSH-")) || len(verb) == 0 && !c.attached && c.hello == helloNone {
			c.set.Counters.Foreign.Add(1)
			c.hangUp(replyForeign)
			return
		}
		c.fail(replyUnknown)
	}
}

// helloCommand answers EHLO and HELO, which begin anew (RFC 5321 §4.1.4). The
// name is kept only where SPF asks for it.
func (c *Conn) helloCommand(extended bool, args []byte) {
	if len(args) == 0 || !utf8.Valid(args) {
		c.fail(replyNoName)
		return
	}
	c.giveUp()
	if c.set.KeepHelo {
		c.helo = string(args)
	}
	switch {
	case !extended:
		c.hello = helloPlain
		c.idle(c.set.helo)
	case c.tlsc != nil:
		c.hello = helloExtended
		c.idle(c.set.ehloTLS)
	default:
		c.hello = helloExtended
		c.idle(c.set.ehlo)
	}
}

// giveUp ends an open transaction, in go-smtp too.
func (c *Conn) giveUp() {
	if c.open && c.attached {
		c.feed = feedReset
	}
	c.endTransaction()
}

func (c *Conn) mailCommand(args []byte) {
	switch {
	case c.hello == helloNone:
		c.fail(replyHello)
		return
	case c.open:
		c.fail(replyNested) // RFC 5321 §4.1.4
		return
	}
	m, reply := parseMail(args, c.tls.Version != 0)
	if reply != "" {
		c.fail(reply)
		return
	}
	c.mail = m
	c.feed, c.expect = feedMail, expectMail
}

func (c *Conn) rcptCommand(args []byte) {
	if !c.open {
		c.fail(replyNeedMail)
		return
	}
	r, reply := parseRcpt(args, c.mail.UTF8)
	if reply != "" {
		c.fail(reply)
		return
	}
	c.rcpt = r
	c.feed, c.expect = feedRcpt, expectRcpt
}

func (c *Conn) dataCommand(args []byte) {
	reply := ""
	switch {
	case len(args) > 0:
		reply = replyNoArgs
	case !c.open:
		reply = replyNeedMail
	case c.rcpts == 0:
		reply = replyNoRcpt
	}
	if reply != "" {
		c.fail(reply)
		if c.r < c.w && !c.ending {
			// RFC 2920 §3.1: DATA ends a group. What follows a DATA that fails may be a
			// message, and must not be read as commands.
			c.hangUp(replyTooMany)
		}
		return
	}
	c.borrow()
	c.content = content{scan: newScanner()}
	c.feed, c.expect = feedData, expectData
}

func (c *Conn) bdatCommand(args []byte) {
	size, last, ok := parseChunk(args)
	if !ok {
		// Where the chunk ends cannot be known.
		c.set.Counters.BadCommands.Add(1)
		c.hangUp(replyChunkSyntax)
		return
	}
	reply := ""
	switch {
	case !c.open:
		reply = replyNeedMail
	case c.rcpts == 0:
		reply = replyNoRcpt
	}
	if reply != "" {
		// RFC 3030 §2: the chunk of a refused BDAT follows all the same.
		if c.skip(size) {
			c.fail(reply)
		}
		return
	}
	c.borrow()
	c.content = content{scan: newScanner(), chunked: true, left: size, last: last}
	c.tooLarge()
	c.feed, c.expect = feedData, expectData
}

// parseChunk reads "size [LAST]" (RFC 3030 §2).
func parseChunk(args []byte) (size int64, last, ok bool) {
	number, word, more := bytes.Cut(args, []byte(" "))
	if more {
		if !bytes.EqualFold(word, []byte("LAST")) {
			return 0, false, false
		}
		last = true
	}
	if len(number) == 0 || number[0] < '0' || number[0] > '9' {
		return 0, false, false
	}
	size, err := strconv.ParseInt(string(number), 10, 64)
	return size, last, err == nil
}

// EtrnResult is what an ETRN came to.
type EtrnResult uint8

// The results of ETRN, in the order of their replies (RFC 1985 §4).
const (
	EtrnStarted EtrnResult = iota
	EtrnNothing            // nothing waits for the domain
	EtrnFailed             // for now
	EtrnDenied             // this client may not start that queue
)

// etrnCommand starts the delivery of what waits for a domain. It weighs as a command that
// brings no message.
func (c *Conn) etrnCommand(args []byte) {
	switch {
	case c.set.Etrn == nil:
		c.idle(replyExpn)
	case c.hello != helloExtended:
		c.fail(replyHello)
	case c.open:
		c.fail(replyNested)
	case len(args) == 0 || len(args) > maxDomain+1 || !ascii(args):
		c.fail(replyEtrnArgs)
	default:
		c.idle([...]string{
			EtrnStarted: replyEtrnStarted, EtrnNothing: replyEtrnNothing, EtrnFailed: replyEtrnFailed, EtrnDenied: replyEtrnDenied,
		}[c.set.Etrn(c.client, string(args))])
	}
}

func (c *Conn) authCommand(args, line []byte) {
	mech, initial, given := bytes.Cut(args, []byte(" "))
	reply := ""
	switch {
	case c.hello != helloExtended:
		reply = replyHello
	case !c.set.Auth:
		reply = replyNoAuth
	case c.tlsc == nil:
		reply = replyAuthClear // RFC 4954 §4: not even decoded
	case c.authed:
		reply = replyAuthAgain
	case c.open:
		reply = replyNested
	case len(mech) == 0:
		reply = replyAuthArgs
	case !bytes.EqualFold(mech, []byte("PLAIN")) && !bytes.EqualFold(mech, []byte("LOGIN")):
		reply = replyAuthMech
	case given && (len(initial) == 0 || !validBase64(initial)):
		reply = replyAuthBase64
	}
	if reply != "" {
		c.fail(reply)
		return
	}
	c.feed, c.expect = line[:len(line)+2], expectAuth
}
