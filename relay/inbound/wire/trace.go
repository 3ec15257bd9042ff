package wire

import (
	"bytes"
	"crypto/tls"
	"strconv"

	"tacet/relay"
)

// following gives the trace of the connection, nil as long as nobody wants
// one. It costs one atomic load then.
func (c *Conn) following() relay.Trace {
	if c.set.Tracer == nil || !c.set.Tracer.Active() {
		if c.trace != nil {
			c.unfollow()
		}
		return nil
	}
	if c.trace == nil {
		if c.trace = c.set.Tracer.Trace(true, c.client, ""); c.trace == nil {
			return nil
		}
		c.told = 0
		if c.tlsc != nil {
			c.trace.Line(relay.TraceAside, c.protection())
		}
		if c.user != "" {
			c.trace.User(c.user)
		}
		if c.open {
			c.trace.Begin("", "", c.client, string(c.mail.From))
		}
	}
	return c.trace
}

// unfollow ends the trace.
func (c *Conn) unfollow() {
	if c.trace != nil {
		c.replied()
		c.trace.Close()
		c.trace = nil
	}
}

// LoggedIn says who the client has authenticated as.
func (c *Conn) LoggedIn(user string) {
	c.user = user
	if t := c.following(); t != nil {
		t.User(user)
	}
}

// heard traces a command line. What may hold credentials, or be a person's
// answer to a prompt, is not told.
func (c *Conn) heard(line []byte) {
	t := c.following()
	if t == nil {
		return
	}
	c.replied()
	if c.phase == phaseSASL {
		t.Line(relay.TraceReceived, []byte("(AUTH: masked)"))
		return
	}
	var buf [12]byte
	verb, args := split(line, &buf)
	word := string(verb)
	// What comes behind a transaction belongs to it no more, but for what a
	// client says that does not know yet that its MAIL was refused.
	if !c.open && word != "RCPT" && word != "DATA" && word != "BDAT" {
		t.End()
	}
	t.Recipient("")
	switch word {
	case "MAIL":
		if !c.open {
			from := "?" // nobody's address: what cannot be read is nobody's business
			if m, reply := parseMail(args, c.tls.Version != 0); reply == "" {
				from = string(m.From)
			}
			t.Begin("", "", c.client, from)
		}
	case "RCPT":
		about := "?"
		if r, reply := parseRcpt(args, c.mail.UTF8); reply == "" {
			about = string(r.To)
		}
		t.Recipient(about)
	case "AUTH":
		mech, _, _ := bytes.Cut(args, []byte(" "))
		if !bytes.EqualFold(mech, []byte("PLAIN")) && !bytes.EqualFold(mech, []byte("LOGIN")) {
			mech = nil
		}
		line = append([]byte("AUTH "), mech...)
		line = append(line, " (masked)"...)
	case "EHLO", "HELO", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "STARTTLS", "VRFY", "HELP", "EXPN":
	default:
		line = strconv.AppendInt([]byte("(another command, octets: "), int64(len(line)), 10)
		line = append(line, ')')
	}
	t.Line(relay.TraceReceived, line)
}

// replied traces the replies that were made since it was asked last: they are
// all to the last command that was heard.
func (c *Conn) replied() {
	if c.trace == nil {
		return
	}
	if c.told > len(c.out) { // what the trace had was dropped
		c.told = 0
	}
	for rest := c.out[c.told:]; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if bytes.HasPrefix(line, []byte("334")) {
			line = []byte("334 (masked)")
		}
		c.trace.Line(relay.TraceSent, line)
	}
	c.told = len(c.out)
}

// protection describes the TLS of the connection.
func (c *Conn) protection() []byte {
	return []byte("(" + tls.VersionName(c.tls.Version) + ", " + tls.CipherSuiteName(c.tls.Cipher) + ")")
}

// remark traces what nobody said.
func (c *Conn) remark(text string) {
	if c.trace != nil {
		c.replied()
		c.trace.Line(relay.TraceAside, []byte(text))
	}
}
