package outbound

import (
	"context"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// connect opens a session at hop that is ready for MAIL. Under opportunistic
// TLS a handshake that fails leads to a second connection, in the clear and on
// record as such (RFC 7435 §3).
func (c *Client) connect(ctx context.Context, d queue.Destination, hop relay.Hop, auth *relay.Login, sec security, trace relay.Trace) (*conn, *fault) {
	s, f := c.session(ctx, d, hop, auth, sec, queue.NoTLSOff, trace)
	c.observe(hop, &sec, s, f)
	if f == nil || f.inClear == queue.NoTLSUnset || sec.required {
		return s, f
	}
	sec.off = true
	hop.Addr, hop.Rival = f.host, netip.AddrPort{} // of that very host
	remarkFault(trace, f)
	return c.session(ctx, d, hop, auth, sec, f.inClear, trace)
}

// session opens one connection and goes all steps up to MAIL. why is on record
// if sec has TLS off.
func (c *Client) session(ctx context.Context, d queue.Destination, hop relay.Hop, auth *relay.Login, sec security, why queue.NoTLS, trace relay.Trace) (*conn, *fault) {
	s, f := c.dial(ctx, d, hop)
	if f != nil {
		return nil, f
	}
	s.trace, s.waived, s.certain, s.tls.Wanted = trace, sec.waived, sec.certain, sec.wanted
	if trace != nil && s.hop.Addr != hop.Addr {
		trace.Line(relay.TraceAside, []byte("(the other address was faster: "+s.hop.Addr.Addr().String()+")"))
	}
	s.as = sec.as
	if f = s.proxy(); f == nil {
		f = s.setUp(ctx, auth, sec, why)
	}
	if f != nil {
		s.trace = nil // it goes on without this connection
		f.host, f.tls = s.hop.Addr, s.tls
		if f.inClear != queue.NoTLSUnset {
			f.tls.None = f.inClear
		}
		s.close()
		return nil, f
	}
	if s.net == s.raw {
		c.stats.Plain.Add(1)
	} else {
		c.stats.TLS.Add(1)
	}
	return s, nil
}

// dial opens the TCP connection.
func (c *Client) dial(ctx context.Context, d queue.Destination, hop relay.Hop) (*conn, *fault) {
	dctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Connect)
	defer cancel()
	got := c.reach(dctx, hop)
	if got.err != nil {
		f := broken(queue.StageConnect, ioCause(got.err), got.err)
		if ctx.Err() != nil {
			f.reply.Cause = ioCause(ctx.Err())
		}
		return nil, f
	}
	raw := got.conn
	hop.Addr = got.addr
	s := &conn{client: c, dest: d, hop: hop, raw: raw, net: raw, probe: newProbe(raw), born: time.Now()}
	s.killer = s.kill
	if !c.pool.add(s) {
		raw.Close()
		return nil, broken(queue.StageConnect, queue.CauseShutdown, nil)
	}
	c.stats.Opened.Add(1)
	s.borrow()
	s.watch(ctx)
	return s, nil
}

func (c *conn) setUp(ctx context.Context, auth *relay.Login, sec security, why queue.NoTLS) *fault {
	if f := c.greeting(); f != nil {
		return f
	}
	if f := c.hello(true); f != nil {
		return f
	}
	switch {
	case sec.off && sec.required:
		c.tls.None = queue.NoTLSOff
		if sec.strict {
			return noRequireTLS(queue.StageTLS)
		}
		return broken(queue.StageTLS, queue.CauseTLSRequired, nil)
	case sec.off:
		c.tls.None = why
	case c.peer.startTLS:
		if f := c.startTLS(sec); f != nil {
			return f
		}
		c.peer = peer{} // RFC 3207 §4.2: nothing said in the clear counts
		if f := c.hello(false); f != nil {
			return f
		}
	case sec.required:
		c.tls.None = queue.NoTLSNotOffered
		if sec.strict {
			return noRequireTLS(queue.StageTLS)
		}
		return &fault{reply: queue.Reply{Stage: queue.StageTLS, Cause: queue.CauseTLSRequired}}
	default:
		c.tls.None = queue.NoTLSNotOffered
	}
	if f := c.xclient(ctx); f != nil {
		return f
	}
	if auth != nil {
		return c.login(auth)
	}
	return nil
}

// greeting waits for the banner (RFC 5321 §3.1).
func (c *conn) greeting() *fault {
	r, f := c.read(queue.StageGreeting, c.client.config.Timeouts.Greeting, nil)
	switch {
	case f != nil:
		return f
	case r.code == 220 && c.inStep():
		return nil
	case r.class() == 2 || r.class() == 3:
		return c.outOfStep(queue.StageGreeting)
	}
	return c.unwelcome(r, queue.StageGreeting)
}

// hello says EHLO, or HELO to a server that doesn't know it (RFC 5321 §3.2).
func (c *conn) hello(orHELO bool) *fault {
	first := true
	r, f := c.ask(queue.StageEhlo, []byte("EHLO "+c.ehloName()+"\r\n"), func(line []byte) {
		if !first { // the first line is the server's name
			c.peer.keyword(line)
		}
		first = false
	})
	if f != nil {
		return f
	}
	if r.class() == 5 && orHELO && c.inStep() {
		c.peer = peer{}
		if r, f = c.ask(queue.StageEhlo, []byte("HELO "+c.ehloName()+"\r\n"), nil); f != nil {
			return f
		}
	}
	switch {
	case r.class() == 3 || !c.inStep():
		return c.outOfStep(queue.StageEhlo)
	case r.class() != 2:
		return c.unwelcome(r, queue.StageEhlo)
	}
	return nil
}

// unwelcome is the fault of a host that will not talk to us. Another may, and
// this one later: 5yz here refuses no recipient. But 521 says that the host takes no mail
// at all (RFC 7504 §3.1): where no other host is left, waiting for it is in vain.
func (c *conn) unwelcome(r *reply, stage queue.Stage) *fault {
	f := &fault{reply: r.toQueue(stage)}
	switch {
	case r.code == 521:
	case r.code == 421:
		f.reply.Cause = queue.CauseConcurrencyLimit
	case r.class() == 5:
		f.reply.Cause = queue.CauseRefused
	}
	return f
}
