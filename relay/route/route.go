package route

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// The limits of a route.
const (
	maxHops     = 10               // addresses given out
	maxHosts    = 5                // hosts with an address that are used
	maxTried    = 10               // hosts whose addresses are looked up
	maxPerHost  = 4                // addresses used of one host
	routeWithin = 60 * time.Second // for all look-ups together
)

var (
	errNoAddress = errors.New("no host has an address")
	errNoMXName  = errors.New("no MX record holds a host name")
	errSelf      = errors.New("the next hop is this relay")
	errAddress   = errors.New("the address must not be contacted")
	errUnnamed   = errors.New("the recipient's domain is not a domain name")
)

// Route finds the next hops of d, in the order to try them: by MX preference,
// in random order among equals, and of each host IPv6 and IPv4 in turn. It
// ends within a minute. The error is a [*relay.RouteError]: CauseShutdown if ctx ended.
func (r *Router) Route(ctx context.Context, d queue.Destination) (*relay.Route, error) {
	route, fault := r.route(ctx, d)
	switch {
	case fault == nil:
		return route, nil
	case ctx.Err() != nil:
		return nil, &relay.RouteError{Cause: queue.CauseShutdown, Err: context.Cause(ctx)}
	}
	return nil, fault
}

func (r *Router) route(ctx context.Context, d queue.Destination) (*relay.Route, *relay.RouteError) {
	ctx, cancel := context.WithTimeoutCause(ctx, routeWithin, errServers)
	defer cancel()
	ch := r.choiceFor(d)
	route := &relay.Route{Introduction: ch.intro, TLS: ch.tls, Auth: ch.auth, MaxMessages: ch.MaxMessages, Authentic: true}
	var fault *relay.RouteError
	if ch.primary {
		route.Hops, fault = r.toPrimary(ctx, route, ch, string(d))
	} else if !ch.hop.IsZero() {
		route.Hops, fault = r.toNextHop(ctx, route, ch.hop)
		fault = recoverable(fault)
	} else {
		route.Hops, fault = r.toDomain(ctx, route, string(d))
	}
	if fault != nil {
		if !fault.Cause.Permanent() {
			fault.Fallback = r.fallbackOf(ch)
		}
		return nil, fault
	}
	route.Fallback, route.Primary = r.fallbackOf(ch), ch.primary
	return route, nil
}

// fallbackOf is where mail goes that no MX takes for now. What is sent to a
// configured next hop, or kept for a primary, goes nowhere else.
func (r *Router) fallbackOf(ch choice) queue.Destination {
	if !ch.hop.IsZero() || ch.primary {
		return ""
	}
	return r.fallback
}

// Forbidden tells whether a must not be contacted for d: a special address or
// this relay itself, unless d is a configured next hop or the configuration allows them all. Hops that Route
// gave out are never forbidden; it is for those who check once more as they dial.
func (r *Router) Forbidden(d queue.Destination, a netip.AddrPort) bool {
	return (r.denySpecial && Forbidden(a.Addr()) || r.self.is(a)) && r.choiceFor(d).hop.IsZero()
}

// choiceFor is what is configured for d now. d may be of an earlier
// configuration: a domain that has got a next hop since goes there, and a next
// hop that is no longer configured is read from its name, without a login.
func (r *Router) choiceFor(d queue.Destination) choice {
	if ch, ok := r.named[d]; ok {
		return ch
	}
	if !isNextHop(d) {
		if ch, ok := r.relays[string(d)]; ok {
			return ch
		}
		return r.rules.match(string(d), r.base)
	}
	spec, _, _ := strings.Cut(string(d), "/")
	spec, _, _ = strings.Cut(spec, ",") // of a primary with several hosts
	hop, err := ParseNextHop(spec)
	if err != nil {
		return choice{} // isDomain refuses d
	}
	return choice{hop: hop, tls: r.base.tls}
}

// recoverable makes a fault of a configured next hop temporary: a slip in the
// configuration or in the smarthost's zone must not fail everyone's mail.
func recoverable(f *relay.RouteError) *relay.RouteError {
	if f == nil || !f.Cause.Permanent() {
		return f
	}
	cause := queue.CauseMXUnresolved
	if f.Cause == queue.CauseLoopsBack {
		cause = queue.CauseLocal
	}
	return &relay.RouteError{Cause: cause, Err: f.Err}
}

// toNextHop finds the hops of a configured next hop, whose addresses may be special.
func (r *Router) toNextHop(ctx context.Context, route *relay.Route, h NextHop) ([]relay.Hop, *relay.RouteError) {
	t := target{port: h.Port, explicit: true, route: route}
	if h.Addr.IsValid() {
		hop := relay.Hop{Name: h.Addr.String(), Addr: netip.AddrPortFrom(h.Addr, h.Port)}
		if r.self.is(hop.Addr) {
			return nil, &relay.RouteError{Cause: queue.CauseLoopsBack, Err: errSelf}
		}
		return []relay.Hop{hop}, nil
	}
	if h.Bracket || strings.IndexByte(h.Host, '.') < 0 {
		if v4, v6 := r.hosts.addrs(h.Host); len(v4)+len(v6) > 0 {
			return r.check(t, h.Host, AddrAnswer{V4: v4, V6: v6}).alone()
		}
	}
	if h.Bracket {
		return r.find(ctx, t, h.Host).alone()
	}
	return r.byMX(ctx, t, h.Host)
}

// toDomain finds the hops of a recipient's domain or address literal.
func (r *Router) toDomain(ctx context.Context, route *relay.Route, domain string) ([]relay.Hop, *relay.RouteError) {
	t := target{port: smtpPort, route: route}
	if a, ok := parseLiteral(domain); ok {
		return r.check(t, a.String(), AddrAnswer{V4: []netip.Addr{a}}).alone()
	}
	if !isDomain(domain) {
		return nil, &relay.RouteError{Cause: queue.CauseBadDomain, Err: errUnnamed}
	}
	if strings.HasSuffix(domain, ".onion") { // RFC 7686 §2: the DNS must not hear of it
		return nil, &relay.RouteError{Cause: queue.CauseNoSuchDomain, Err: ErrNoSuchName}
	}
	route.Domain = domain
	return r.byMX(ctx, t, domain)
}
