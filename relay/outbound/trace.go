package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"strconv"

	"tacet/queue"
	"tacet/relay"
)

// begin gives the trace of a connection that is about to be opened, nil as
// long as nobody wants one. It costs one atomic load then.
func (c *Client) begin(hop relay.Hop) relay.Trace {
	if c.config.Tracer == nil || !c.config.Tracer.Active() {
		return nil
	}
	t := c.config.Tracer.Trace(false, hop.Addr.Addr().Unmap(), hop.Name)
	if t != nil {
		t.Line(relay.TraceAside, []byte("(connecting, port "+strconv.Itoa(int(hop.Addr.Port()))+")"))
	}
	return t
}

// follow makes sure that a transaction over a kept connection is traced, if and
// only if somebody wants it.
func (c *conn) follow() {
	if c.client.config.Tracer == nil || !c.client.config.Tracer.Active() {
		c.unfollow()
		return
	}
	if c.trace == nil {
		if c.trace = c.client.config.Tracer.Trace(false, c.hop.Addr.Addr().Unmap(), c.hop.Name); c.trace != nil {
			c.trace.Line(relay.TraceAside, []byte("(over a connection that was open)"))
		}
	}
}

func (c *conn) unfollow() {
	if c.trace != nil {
		c.trace.Close()
		c.trace = nil
	}
}

// said traces commands. Those of an AUTH dialogue are not told.
func (c *conn) said(stage queue.Stage, commands []byte) {
	if c.trace == nil {
		return
	}
	if stage == queue.StageAuth {
		c.trace.Line(relay.TraceSent, []byte("(AUTH: masked)"))
		return
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(commands, []byte("\r\n")), []byte("\r\n")) {
		c.trace.Line(relay.TraceSent, line)
	}
}

// hearing gives each with a trace of the reply that is being read. Of an AUTH
// dialogue it tells the codes alone.
func (c *conn) hearing(stage queue.Stage, each func([]byte)) func([]byte) {
	return func(text []byte) {
		line := strconv.AppendInt(nil, int64(c.reply.code), 10)
		line = append(line, ' ')
		if stage == queue.StageAuth {
			if e, _, ok := splitEnhanced(text); ok {
				line = fmt.Appendf(line, "%d.%d.%d ", e[0], e[1], e[2])
			}
			text = []byte("(masked)")
		}
		c.trace.Line(relay.TraceReceived, append(line, text...))
		if each != nil {
			each(text)
		}
	}
}

// secured traces what TLS came to.
func (c *conn) secured(state *tls.ConnectionState) {
	if c.trace != nil {
		c.trace.Line(relay.TraceAside, []byte("("+tls.VersionName(state.Version)+", "+tls.CipherSuiteName(state.CipherSuite)+")"))
	}
}

// told traces the transaction that begins, and that its lines belong to it.
func (t *transaction) told() {
	if trace := t.c.trace; trace != nil {
		trace.Begin(t.env.ID.String(), t.env.Origin.User, t.env.Origin.Client, string(t.env.Sender))
	}
}

// about says which recipient the next lines are about; negative: none.
func (t *transaction) about(i int) {
	switch {
	case t.c.trace == nil:
	case i < 0:
		t.c.trace.Recipient("")
	default:
		t.c.trace.Recipient(string(t.env.Recipients[t.claim.Recipients[i]].Path))
	}
}

// traceContent traces content that is about to be written.
func (t *transaction) traceContent(octets []byte) {
	if t.c.trace != nil {
		t.c.trace.Line(relay.TraceAside, []byte("(content, octets: "+strconv.Itoa(len(octets))+")"))
		t.c.trace.Content(octets)
	}
}

// blame traces a fault, which concerns everybody who is still open: the
// session before it is part of their dialogue too.
func (a *attempt) blame(t relay.Trace, f *fault) {
	if t == nil {
		return
	}
	t.Begin(a.env.ID.String(), a.env.Origin.User, a.env.Origin.Client, string(a.env.Sender))
	for _, i := range a.open {
		t.Recipient(string(a.env.Recipients[a.claim.Recipients[i]].Path))
	}
	t.Recipient("")
	remarkFault(t, f)
	t.End()
}

// remarkFault says why a step was the last one. What is kept of an error in an
// incident is kept nowhere else.
func remarkFault(t relay.Trace, f *fault) {
	if t == nil || f == nil || f.err == nil {
		return
	}
	t.Line(relay.TraceAside, []byte("(failed: "+f.err.Error()+")"))
}

// connectTraced is connect with a trace, if somebody wants one.
func (a *attempt) connectTraced(ctx context.Context, hop relay.Hop, auth *relay.Login, sec security) (*conn, *fault) {
	trace := a.client.begin(hop)
	c, f := a.client.connect(ctx, a.dest, hop, auth, sec, trace)
	if f != nil && trace != nil {
		a.blame(trace, f)
		trace.Close()
	}
	return c, f
}
