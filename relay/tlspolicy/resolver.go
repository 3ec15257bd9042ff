package tlspolicy

import (
	"context"
	"slices"
	"sync"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/tlspolicy/mtasts"
)

// Routes finds next hops. relay/route fills it.
type Routes interface {
	Route(ctx context.Context, d queue.Destination) (*relay.Route, error)
}

// DNS answers for TLSA records. relay/route fills it. A name that does not
// exist has no records; every error is temporary.
type DNS interface {
	// TLSA returns the records of name, and whether DNSSEC vouches for the answer.
	TLSA(ctx context.Context, name string) (records []relay.TLSA, authentic bool, err error)
	// Alias tells whether DNSSEC vouches for the CNAME record of name itself.
	Alias(ctx context.Context, name string) (authentic bool, err error)
}

// Policies knows domains' MTA-STS policies. *[mtasts.Cache] fills it.
type Policies interface {
	Policy(ctx context.Context, domain string) (*mtasts.Policy, relay.TLSFailure)
}

// Resolver finds next hops together with what they are held to. All methods
// may be called at the same time.
type Resolver struct {
	routes   Routes
	dns      DNS
	policies Policies
}

// New makes a resolver.
func New(routes Routes, dns DNS, policies Policies) *Resolver {
	return &Resolver{routes: routes, dns: dns, policies: policies}
}

// Route finds the next hops of d and sets the Hold of each. Every error is
// that of the routes, or CauseShutdown if ctx ended. It makes look-ups of its own only where the
// hosts' names come from the DNS.
func (r *Resolver) Route(ctx context.Context, d queue.Destination) (*relay.Route, error) {
	route, err := r.routes.Route(ctx, d)
	if err != nil || route.TLS == relay.TLSNone {
		return route, err
	}
	if route.Authentic && slices.ContainsFunc(route.Hops, named) {
		r.holdByDANE(ctx, route)
	}
	if route.Domain != "" && slices.ContainsFunc(route.Hops, open) {
		policy, failure := r.policies.Policy(ctx, route.Domain)
		for i := range route.Hops {
			if open(route.Hops[i]) {
				holdBySTS(&route.Hops[i], policy, failure)
			}
		}
	}
	if ctx.Err() != nil {
		return nil, &relay.RouteError{Cause: queue.CauseShutdown, Err: context.Cause(ctx)}
	}
	return route, nil
}

// named tells that the host's address comes from the DNS.
func named(hop relay.Hop) bool { return hop.Canonical != "" }

// open tells that DANE left the question of the host's certificate open.
func open(hop relay.Hop) bool {
	return hop.Hold == nil || hop.Hold.By == relay.HeldByNothing && hop.Hold.Refused == queue.CauseNone
}

// holdByDANE looks up the TLSA records of all hosts at the same time. The hops
// of one host share its hold.
func (r *Resolver) holdByDANE(ctx context.Context, route *relay.Route) {
	holds := make([]*relay.Hold, len(route.Hops)) // the hops themselves are being read meanwhile
	var wg sync.WaitGroup
	for i := range route.Hops {
		if hop := &route.Hops[i]; named(*hop) && firstOf(route, i) == i {
			wg.Go(func() { holds[i] = r.dane(ctx, route, hop) })
		}
	}
	wg.Wait()
	for i := range route.Hops {
		route.Hops[i].Hold = holds[firstOf(route, i)]
	}
}

// firstOf is the index of the first hop of the same host.
func firstOf(route *relay.Route, i int) int {
	return slices.IndexFunc(route.Hops, func(hop relay.Hop) bool { return hop.Name == route.Hops[i].Name })
}

// holdBySTS holds the host to the domain's policy, or notes why it is not known.
func holdBySTS(hop *relay.Hop, p *mtasts.Policy, failure relay.TLSFailure) {
	if p == nil && failure == relay.TLSFailureNone || p != nil && p.Mode == mtasts.ModeNone {
		return
	}
	h := &relay.Hold{Failure: failure}
	if hop.Hold != nil { // TLSA records of no use
		h.Require = hop.Hold.Require
	}
	hop.Hold = h
	if p == nil {
		return
	}
	h.By, h.Policy, h.Hosts = relay.HeldBySTS, p.Text, p.MX
	if p.Mode == mtasts.ModeTesting {
		h.By = relay.HeldBySTSTesting
	}
	if p.Allows(hop.Name) {
		return
	}
	h.Failure = relay.FailedMismatch
	if p.Mode == mtasts.ModeEnforce { // RFC 8461 §5.1
		h.Refused = queue.CauseTLSUnverified
	}
}
