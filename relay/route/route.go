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
	errNoAddress   = errors.New("no host has an address")
	errNoMXName    = errors.New("no MX record holds a host name")
	errSelf        = errors.New("the next hop is this relay")
	errAddress     = errors.New("the address must not be contacted")
	errUnnamed     = errors.New("the recipient's domain is not a domain name")
	errDestination = errors.New("the configured next hop cannot be read")
)

// Route finds the next hops of d, in the order to try them: by MX preference,
// in random order among equals, and of each host IPv6 and IPv4 in turn. It
// ends within a minute. The error is a [*relay.RouteError], unless ctx ended.
func (r *Router) Route(ctx context.Context, d queue.Destination) (*relay.Route, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, routeWithin, errServers)
	defer cancel()
	var ch choice
	var hops []relay.Hop
	var fault *relay.RouteError
	if isNextHop(d) {
		ch = r.configured(d)
		if ch.hop.IsZero() {
			return nil, &relay.RouteError{Cause: queue.CauseLocal, Err: errDestination}
		}
		hops, fault = r.toNextHop(ctx, ch.hop)
		fault = recoverable(fault)
	} else {
		ch = r.rules.match(string(d), r.base)
		hops, fault = r.toDomain(ctx, string(d))
	}
	if fault != nil {
		return nil, fault
	}
	return &relay.Route{Hops: hops, TLS: ch.tls, Auth: ch.auth}, nil
}

// configured is what is configured for the next hop d. One of an earlier
// configuration is read from its name.
func (r *Router) configured(d queue.Destination) choice {
	if ch, ok := r.named[d]; ok {
		return ch
	}
	spec, _, _ := strings.Cut(string(d), "/")
	hop, err := ParseNextHop(spec)
	if err != nil {
		return choice{}
	}
	return choice{hop: hop, tls: r.base.tls}
}

// recoverable makes a fault of a configured next hop temporary: a slip in the
// configuration or in the smarthost's zone must not bounce everyone's mail.
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
func (r *Router) toNextHop(ctx context.Context, h NextHop) ([]relay.Hop, *relay.RouteError) {
	t := target{port: h.Port, explicit: true}
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
func (r *Router) toDomain(ctx context.Context, domain string) ([]relay.Hop, *relay.RouteError) {
	t := target{port: smtpPort}
	if a, ok := parseLiteral(domain); ok {
		return r.check(t, a.String(), AddrAnswer{V4: []netip.Addr{a}}).alone()
	}
	if !isDomain(domain) {
		return nil, &relay.RouteError{Cause: queue.CauseBadDomain, Err: errUnnamed}
	}
	return r.byMX(ctx, t, domain)
}
