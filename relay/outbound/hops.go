package outbound

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// overHops tries the hops of the destination, and where none of them takes the
// mail for now those of its fallback.
func (a *attempt) overHops(ctx context.Context, skip netip.AddrPort) {
	if a.client.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.client.ctx, cancel)()

	fallback := a.overRoute(ctx, skip)
	if fallback == "" || len(a.open) == 0 || ctx.Err() != nil || a.last.reply.Permanent() {
		return
	}
	a.dest = fallback
	skip = a.overKept(ctx)
	if len(a.open) > 0 {
		a.overRoute(ctx, skip)
	}
}

// overRoute asks where a.dest is and tries its hops in order, as many as the
// config allows, until everyone has the last word (RFC 5321 §5.1). It returns where
// else to turn.
func (a *attempt) overRoute(ctx context.Context, skip netip.AddrPort) (fallback queue.Destination) {
	route, err := a.client.resolver.Route(ctx, a.dest)
	switch {
	case ctx.Err() != nil:
		return ""
	case err != nil:
		f := routeFault(err)
		if e, ok := errors.AsType[*relay.RouteError](err); ok && e.Fallback != "" {
			fallback, f.decided = e.Fallback, false
		}
		a.note(f)
		return fallback
	case len(route.Hops) == 0:
		a.note(&fault{reply: queue.Reply{Stage: queue.StageRoute, Cause: queue.CauseMXUnresolved}})
		return route.Fallback
	}
	config := &a.client.config
	begun := time.Now()
	tried := 0
	hops := route.Hops
	for i := 0; i < len(hops); i++ {
		hop := hops[i]
		switch {
		case len(a.open) == 0, ctx.Err() != nil, tried == config.MaxHops, time.Since(begun) > config.Timeouts.SetUp:
			return route.Fallback
		case hop.Addr == skip:
			continue
		case config.Forbidden(a.dest, hop.Addr):
			a.note(&fault{reply: queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseAddressForbidden}})
			continue
		}
		sec := a.client.securityFor(route, &hop, a.env)
		if sec.refused != queue.CauseNone {
			a.refuseHop(route, hop, &sec)
			continue
		}
		if i+1 < len(hops) && hops[i+1].Addr != skip && !config.Forbidden(a.dest, hops[i+1].Addr) {
			hop = withRival(hop, hops[i+1])
		}
		tried++
		switch reached := a.overHop(ctx, hop, route, sec); {
		case !hop.Rival.IsValid() || reached == hop.Addr:
		case reached == hop.Rival: // its rival is still to be tried
			hops = slices.Clone(hops)
			hops[i+1] = hops[i]
		default: // both were tried
			i++
		}
	}
	return route.Fallback
}

// refuseHop passes over a host that policy forbids to contact.
func (a *attempt) refuseHop(route *relay.Route, hop relay.Hop, sec *security) {
	if !a.result.Host.IsValid() {
		a.result.TLS = a.protection(queue.TLS{None: queue.NoTLSNotConnected, Wanted: sec.wanted})
	}
	f := broken(queue.StageTLS, sec.refused, nil)
	switch sec.refused {
	case queue.CauseNoRequireTLS:
		f = noRequireTLS(queue.StageRoute)
	case queue.CauseDNSTemporary:
		f.reply.Stage = queue.StageRoute
	}
	a.client.observe(hop, sec, nil, f)
	a.note(f)
}

// overHop connects to hop and sends what is open, over more than one
// connection if the hop takes only so many messages on each. It returns the
// address that it got a connection to.
func (a *attempt) overHop(ctx context.Context, hop relay.Hop, route *relay.Route, sec security) (reached netip.AddrPort) {
	for {
		c, f := a.connectTraced(ctx, hop, route.Auth, sec)
		if f != nil {
			if f.reply.Stage > queue.StageConnect {
				a.result.Host, a.result.TLS = f.host.Addr(), a.protection(f.tls)
				reached = f.host
			}
			a.note(f)
			return reached
		}
		reached = c.hop.Addr
		c.bound(route)
		before := len(a.open)
		f, _ = a.use(ctx, c)
		switch {
		case f != nil && f.again:
		case f != nil:
			a.note(f)
			return reached
		case len(a.open) == 0 || len(a.open) == before:
			return reached
		}
	}
}

// bound notes what the route allows over the connection.
func (c *conn) bound(route *relay.Route) {
	c.primary = route.Primary
	if c.most = c.client.config.MaxMessages; route.MaxMessages > 0 {
		c.most = route.MaxMessages
	}
}
