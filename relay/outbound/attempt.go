package outbound

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// attempt is one delivery of one claim under way.
type attempt struct {
	client *Client
	claim  *queue.Claim
	env    *queue.Envelope
	dest   queue.Destination // the claim's, or the fallback that the mail goes to instead

	sender mailbox
	rcpts  []mailbox // of claim.Recipients
	open   []int     // indexes into claim.Recipients: those without the last word
	scan   scan      // what the content needs of a peer
	mute   bool      // some hop took the message that does not report what becomes of it
	long   bool      // the content is known to have a line that is too long for text

	result relay.Result
	last   fault // what is told to those that stay open
	failed bool  // last is set

	transaction transaction // the one under way
}

// Deliver tries to hand the claimed message to the next hops of its
// destination: over a kept connection if there is one, otherwise hop by hop
// in the resolver's order. It implements [relay.Transport].
func (c *Client) Deliver(ctx context.Context, claim *queue.Claim) relay.Result {
	a := c.attempts.Get().(*attempt)
	a.start(c, claim)
	if ctx.Err() == nil && a.check() {
		skip := a.overKept(ctx)
		if len(a.open) > 0 && ctx.Err() == nil {
			a.overHops(ctx, skip)
		}
	}
	a.closeOpen(ctx)
	for i := range a.result.Replies {
		if cause := int(a.result.Replies[i].Cause); cause < queue.NumCauses {
			c.stats.Causes[cause].Add(1)
		}
	}
	result := a.result
	a.forget()
	c.attempts.Put(a)
	return result
}

func (a *attempt) start(c *Client, claim *queue.Claim) {
	a.client, a.claim, a.env, a.dest = c, claim, claim.Envelope, claim.Destination
	a.result = relay.Result{Replies: make([]queue.Reply, len(claim.Recipients))}
	for i := range claim.Recipients {
		a.open = append(a.open, i)
	}
}

// forget lets go of all that came with the claim, so that the memory can be
// used again without keeping a message.
func (a *attempt) forget() {
	clear(a.rcpts[:cap(a.rcpts)])
	*a = attempt{rcpts: a.rcpts[:0], open: a.open[:0], transaction: transaction{taken: a.transaction.taken[:0]}}
}

// check refuses what could not be said to any peer, and tells whether someone is left.
func (a *attempt) check() bool {
	ok := true
	if !a.env.Sender.IsNull() {
		a.sender, ok = parseMailbox(string(a.env.Sender))
	}
	switch {
	case !ok:
		a.settleOpen(queue.Reply{Stage: queue.StageMail, Cause: queue.CauseBadDomain, Enhanced: queue.Enhanced{5, 1, 7}})
		return false
	case a.claim.Content.Head != nil && a.env.Body != queue.BodyBinaryMIME:
		if ok, a.long = sound(a.claim.Content.Head); !ok {
			a.settleOpen(queue.Reply{Stage: queue.StageContent, Cause: queue.CauseContentDamaged})
			return false
		}
	}
	for i, r := range a.claim.Recipients {
		m, ok := parseMailbox(string(a.env.Recipients[r].Path))
		a.rcpts = append(a.rcpts, m)
		if !ok {
			a.settle(i, queue.Reply{Stage: queue.StageRcpt, Cause: queue.CauseBadDomain, Enhanced: queue.Enhanced{5, 1, 3}})
		}
	}
	a.compact()
	return len(a.open) > 0
}

// overKept uses kept connections to a.dest as long as there are any. If one of them
// failed in a way that a fresh one would not mend, its address is returned: it
// is not to be tried again.
func (a *attempt) overKept(ctx context.Context) (skip netip.AddrPort) {
	for len(a.open) > 0 {
		c := a.client.takeKept(a.dest, a.env)
		if c == nil {
			return skip
		}
		before := len(a.open)
		f, stale := a.use(ctx, c)
		switch {
		case stale:
			// What befell one befell the others that waited longer.
			a.client.stats.Stale.Add(1)
			for _, other := range a.client.pool.drain(a.dest) {
				other.close()
			}
			return skip
		case f != nil && f.again:
		case f != nil:
			a.note(f)
			return c.hop.Addr
		case len(a.open) == before:
			return skip
		}
	}
	return skip
}

// use sends what is open over c until everyone has the last word or c is of
// no more use, and then keeps or ends c. stale tells that c was a kept
// connection that was gone before it was used.
func (a *attempt) use(ctx context.Context, c *conn) (f *fault, stale bool) {
	a.result.Host, a.result.TLS = c.hop.Addr.Addr(), a.protection(c.tls)
	for len(a.open) > 0 && c.usable() {
		c.watch(ctx)
		before := len(a.open)
		f, stale = a.transact(ctx, c)
		if f != nil || stale || len(a.open) == before {
			break
		}
	}
	a.client.keep(c)
	return f, stale
}

// settle is the last word for one recipient. compact follows.
func (a *attempt) settle(i int, r queue.Reply) { a.result.Replies[i] = r }

// settleOpen is the last word for all that are open.
func (a *attempt) settleOpen(r queue.Reply) {
	for _, i := range a.open {
		a.result.Replies[i] = r
	}
	a.open = a.open[:0]
}

// compact takes the settled ones out of open.
func (a *attempt) compact() {
	kept := a.open[:0]
	for _, i := range a.open {
		if !settled(&a.result.Replies[i]) {
			kept = append(kept, i)
		}
	}
	a.open = kept
}

func settled(r *queue.Reply) bool { return r.Code != 0 || r.Cause != queue.CauseNone }

// note keeps the fault of a hop for those that stay open, the most telling
// one: an answer says more than none, and what may change outweighs what may not.
func (a *attempt) note(f *fault) {
	if f.decided {
		a.settleOpen(f.reply)
		return
	}
	was, is := &a.last.reply, &f.reply
	switch {
	case !a.failed, was.Permanent() && !is.Permanent():
		a.last = *f
	case is.Permanent() && !was.Permanent(), was.Code != 0 && is.Code == 0:
	case is.Code == 0 && was.Cause != is.Cause:
		a.last.reply = queue.Reply{Stage: max(was.Stage, is.Stage), Cause: queue.CauseAllHostsFailed}
	default:
		a.last = *f
	}
	a.failed = true
}

// closeOpen tells those that are still open why.
func (a *attempt) closeOpen(ctx context.Context) {
	if len(a.open) == 0 {
		return
	}
	switch {
	case ctx.Err() != nil:
		a.settleOpen(queue.Reply{Stage: a.last.reply.Stage, Cause: ioCause(ctx.Err())})
	case a.client.ctx.Err() != nil:
		a.settleOpen(queue.Reply{Stage: a.last.reply.Stage, Cause: queue.CauseShutdown})
	case a.failed:
		a.settleOpen(a.last.reply)
	default:
		a.settleOpen(queue.Reply{Stage: queue.StageRoute, Cause: queue.CauseAllHostsFailed})
	}
}

// takeKept gives out a kept connection that is alive and held to what e needs, or nil.
func (c *Client) takeKept(d queue.Destination, e *queue.Envelope) *conn {
	fits := (*conn).held
	switch {
	case e.RequireTLS:
		fits = (*conn).heldStrictly
	case e.TLSOptional:
		fits = nil
	}
	if c.introduces.Load() {
		plain := fits
		fits = func(s *conn) bool { return (plain == nil || plain(s)) && s.speaksFor(e) }
	}
	for {
		s := c.pool.take(d, fits)
		if s == nil {
			return nil
		}
		s.borrow()
		s.kept, s.rested = true, time.Since(s.idle.since)
		if s.quiet() {
			c.stats.Reused.Add(1)
			return s
		}
		s.dead = true
		s.close()
	}
}

// keep puts a connection back for the next message, or ends it.
func (c *Client) keep(s *conn) {
	if s.buffers == nil {
		return
	}
	if !s.unwatch() || !s.usable() || !s.inStep() || c.config.KeepAlive < 0 || time.Since(s.born) > c.config.MaxConnectionAge {
		s.close()
		return
	}
	s.handBack()
	if !c.pool.put(s, c.config.KeepAlive, c.config.MaxIdleConnections) {
		s.close()
	}
}

// routeFault is what the resolver's error comes to.
func routeFault(err error) *fault {
	if e, ok := errors.AsType[*relay.RouteError](err); ok {
		return &fault{reply: queue.Reply{Stage: queue.StageRoute, Cause: e.Cause}, err: e, decided: true}
	}
	cause := ioCause(err)
	if cause != queue.CauseShutdown && cause != queue.CauseTimeout {
		cause = queue.CauseLocal
	}
	return &fault{reply: queue.Reply{Stage: queue.StageRoute, Cause: cause}, err: err}
}
