package outbound

import (
	"context"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// overHops asks where the destination is and tries its hops in order, as many
// as the config allows, until everyone has the last word (RFC 5321 §5.1).
func (a *attempt) overHops(ctx context.Context, skip netip.AddrPort) {
	if a.client.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.client.ctx, cancel)()

	route, err := a.client.resolver.Route(ctx, a.claim.Destination)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		a.note(routeFault(err))
		return
	case len(route.Hops) == 0:
		a.note(&fault{reply: queue.Reply{Stage: queue.StageRoute, Cause: queue.CauseMXUnresolved}})
		return
	}
	config := &a.client.config
	begun := time.Now()
	tried := 0
	for _, hop := range route.Hops {
		switch {
		case len(a.open) == 0, ctx.Err() != nil, tried == config.MaxHops, time.Since(begun) > config.Timeouts.SetUp:
			return
		case hop.Addr == skip:
			continue
		case config.Forbidden(a.claim.Destination, hop.Addr.Addr().Unmap()):
			a.note(&fault{reply: queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseAddressForbidden}})
			continue
		}
		sec := a.client.securityFor(route, &hop, a.env)
		if sec.refused != queue.CauseNone {
			a.refuseHop(route, hop, &sec)
			continue
		}
		tried++
		a.overHop(ctx, hop, route, sec)
	}
}

// refuseHop passes over a host that policy forbids to contact.
func (a *attempt) refuseHop(route *relay.Route, hop relay.Hop, sec *security) {
	if !a.result.Host.IsValid() {
		a.result.TLS = queue.TLS{None: queue.NoTLSNotConnected, Wanted: sec.wanted}
	}
	f := broken(queue.StageTLS, sec.refused, nil)
	if sec.refused == queue.CauseDNSTemporary {
		f.reply.Stage = queue.StageRoute
	}
	a.client.observe(hop, sec, nil, f)
	a.note(f)
}

// overHop connects to hop and sends what is open, over more than one
// connection if the hop takes only so many messages on each.
func (a *attempt) overHop(ctx context.Context, hop relay.Hop, route *relay.Route, sec security) {
	for {
		c, f := a.connectTraced(ctx, hop, route.Auth, sec)
		if f != nil {
			if f.reply.Stage > queue.StageConnect {
				a.result.Host, a.result.TLS = hop.Addr.Addr(), f.tls
			}
			a.note(f)
			return
		}
		if c.most = a.client.config.MaxMessages; route.MaxMessages > 0 {
			c.most = route.MaxMessages
		}
		before := len(a.open)
		f, _ = a.use(ctx, c)
		switch {
		case f != nil && f.again:
		case f != nil:
			a.note(f)
			return
		case len(a.open) == 0 || len(a.open) == before:
			return
		}
	}
}
