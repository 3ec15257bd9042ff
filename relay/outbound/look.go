package outbound

import (
	"context"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// lookWithin bounds what is asked of a host without sending it mail.
const lookWithin = 30 * time.Second

var _ relay.Prober = (*Client)(nil)

// Probe implements [relay.Prober]: a host is ready if it is for MAIL. The
// connection is kept for what comes next.
func (c *Client) Probe(ctx context.Context, d queue.Destination) bool {
	ctx, end := c.looking(ctx)
	defer end()
	s, _ := c.contact(ctx, d)
	if s == nil {
		return false
	}
	c.keep(s)
	return true
}

// Verify asks a host of the destination whether it would take mail for a
// recipient, by RCPT in a transaction that it then gives up. The reply has a Cause where
// there was no answer to RCPT.
func (c *Client) Verify(ctx context.Context, d queue.Destination, to queue.ForwardPath) queue.Reply {
	m, ok := parseMailbox(string(to))
	if !ok {
		return queue.Reply{Stage: queue.StageRcpt, Cause: queue.CauseBadDomain}
	}
	ctx, end := c.looking(ctx)
	defer end()
	s := c.takeKept(d, &queue.Envelope{})
	for fresh := s == nil; ; fresh = true {
		if fresh {
			var f *fault
			if s, f = c.contact(ctx, d); f != nil {
				return f.reply
			}
		} else {
			s.watch(ctx)
		}
		reply, f := s.verify(to, m)
		c.keep(s)
		if f == nil {
			return reply
		}
		if fresh {
			return f.reply
		}
	}
}

// verify holds the dialogue of Verify. A fault leaves the connection of no more use.
func (c *conn) verify(to queue.ForwardPath, m mailbox) (queue.Reply, *fault) {
	utf8 := !isASCII(string(to))
	if utf8 && !c.peer.smtputf8 {
		return queue.Reply{Stage: queue.StageRcpt, Cause: queue.CauseNoSMTPUTF8}, nil
	}
	c.mails++
	if c.reset {
		if _, f := c.ask(queue.StageMail, resetCommand, nil); f != nil {
			return queue.Reply{}, f
		}
	}
	c.reset = true
	// The null reverse-path: whoever is asked need not look at a sender.
	mail := "MAIL FROM:<>"
	if utf8 {
		mail += " SMTPUTF8"
	}
	r, f := c.ask(queue.StageMail, []byte(mail+"\r\n"), nil)
	if f != nil {
		return queue.Reply{}, f
	}
	if r.class() != 2 {
		return queue.Reply{Code: r.code, Enhanced: r.enhanced, Stage: queue.StageMail, Cause: queue.CauseRefused}, nil
	}
	rcpt := appendRcpt(nil, &queue.Recipient{Path: to}, m, &peer{}, utf8)
	if r, f = c.ask(queue.StageRcpt, rcpt, nil); f != nil {
		return queue.Reply{}, f
	}
	return r.toQueue(queue.StageRcpt), nil
}

// looking is the context of a look: it ends with ctx, the client, or the time for it.
func (c *Client) looking(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// contact opens a session with the first host of the destination that is ready for MAIL.
func (c *Client) contact(ctx context.Context, d queue.Destination) (*conn, *fault) {
	route, err := c.resolver.Route(ctx, d)
	if err != nil {
		return nil, routeFault(err)
	}
	last := &fault{reply: queue.Reply{Stage: queue.StageRoute, Cause: queue.CauseMXUnresolved}}
	for i, hop := range route.Hops {
		if i == c.config.MaxHops || ctx.Err() != nil {
			break
		}
		if c.config.Forbidden(d, hop.Addr) {
			last = &fault{reply: queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseAddressForbidden}}
			continue
		}
		sec := c.securityFor(route, &hop, &queue.Envelope{})
		if sec.refused != queue.CauseNone {
			last = broken(queue.StageTLS, sec.refused, nil)
			continue
		}
		s, f := c.connect(ctx, d, hop, route.Auth, sec, nil)
		if f == nil {
			s.bound(route)
			return s, nil
		}
		last = f
	}
	return nil, last
}
