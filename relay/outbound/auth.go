package outbound

import (
	"encoding/base64"

	"tacet/queue"
	"tacet/relay"
)

// login authenticates at a smarthost (RFC 4954), by PLAIN (RFC 4616) or else
// LOGIN, under TLS only. That it fails is temporary: it is our own trouble, and
// someone will mend it.
func (c *conn) login(l *relay.Login) *fault {
	if c.net == c.raw {
		return broken(queue.StageAuth, queue.CauseTLSRequired, nil)
	}
	b64 := base64.StdEncoding
	switch {
	case c.peer.authPlain:
		secret := "\x00" + l.User + "\x00" + l.Password
		return c.authStep("AUTH PLAIN "+b64.EncodeToString([]byte(secret)), 235)
	case c.peer.authLogin:
		if f := c.authStep("AUTH LOGIN", 334); f != nil {
			return f
		}
		if f := c.authStep(b64.EncodeToString([]byte(l.User)), 334); f != nil {
			return f
		}
		return c.authStep(b64.EncodeToString([]byte(l.Password)), 235)
	}
	return broken(queue.StageAuth, queue.CauseAuthFailed, nil)
}

// authStep sends one line of the exchange and wants one code for it.
func (c *conn) authStep(line string, want int) *fault {
	r, f := c.ask(queue.StageAuth, append([]byte(line), "\r\n"...), nil)
	switch {
	case f != nil:
		return f
	case !c.inStep():
		return c.outOfStep(queue.StageAuth)
	case r.code == want:
		return nil
	case r.class() == 4:
		return &fault{reply: r.toQueue(queue.StageAuth)}
	}
	refused := &fault{reply: r.toQueue(queue.StageAuth)}
	refused.reply.Cause = queue.CauseAuthFailed
	return refused
}
