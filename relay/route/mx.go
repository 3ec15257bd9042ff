package route

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"tacet/queue"
	"tacet/relay"
)

// target is what is the same for all hosts of a route.
type target struct {
	port     uint16
	explicit bool         // configured: special addresses are allowed
	route    *relay.Route // gets what is known of the hosts' names
}

// byMX finds the hops of a domain by its MX records (RFC 5321 §5.1).
func (r *Router) byMX(ctx context.Context, t target, domain string) ([]relay.Hop, *relay.RouteError) {
	answer, err := r.resolver.MX(ctx, domain)
	if err != nil {
		return nil, lookupFault(err)
	}
	t.route.Authentic = t.route.Authentic && answer.Authentic
	if len(answer.Hosts) == 0 {
		return r.find(ctx, t, domain).alone() // the implicit MX
	}
	hosts := usable(answer.Hosts)
	if len(hosts) == 0 {
		if slices.ContainsFunc(answer.Hosts, func(mx MX) bool { return mx.Host != "." }) {
			return nil, &relay.RouteError{Cause: queue.CauseMXUnresolved, Err: errNoMXName}
		}
		return nil, &relay.RouteError{Cause: queue.CauseNullMX} // RFC 7505 §3
	}
	// A relay hands mail only to hosts that are preferred to itself (RFC 5321 §5.1).
	if i := slices.IndexFunc(hosts, func(mx MX) bool { return mx.Host == r.hostname }); i >= 0 {
		p := hosts[i].Preference
		hosts = hosts[:slices.IndexFunc(hosts, func(mx MX) bool { return mx.Preference == p })]
	}
	return r.hopsOf(ctx, t, hosts)
}

// usable returns the MX records that hold a host name, in order of preference
// and at random among equals.
func usable(all []MX) []MX {
	hosts := make([]MX, 0, len(all))
	for _, mx := range all {
		if isDomain(mx.Host) {
			hosts = append(hosts, mx)
		}
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	return hosts
}

// hopsOf looks the hosts' addresses up, one preference after the other and no
// more than are needed. It stops where a host turns out to be this relay:
// that one's equals and what is worse are left out.
func (r *Router) hopsOf(ctx context.Context, t target, hosts []MX) ([]relay.Hop, *relay.RouteError) {
	var all []found
	hops, used := 0, 0
	for len(hosts) > 0 && len(all) < maxTried && used < maxHosts && hops < maxHops {
		group := slices.IndexFunc(hosts, func(mx MX) bool { return mx.Preference != hosts[0].Preference })
		if group < 0 {
			group = len(hosts)
		}
		batch := r.findAll(ctx, t, hosts[:min(group, maxTried-len(all))])
		if slices.ContainsFunc(batch, func(f found) bool { return f.self }) {
			break
		}
		for _, f := range batch {
			hops += len(f.hops)
			if len(f.hops) > 0 {
				used++
			}
		}
		all = append(all, batch...)
		hosts = hosts[group:]
	}
	if len(all) == 0 {
		return nil, &relay.RouteError{Cause: queue.CauseLoopsBack, Err: errSelf}
	}
	return gather(all)
}

// found is what became of one host.
type found struct {
	hops      []relay.Hop
	self      bool  // one of its addresses leads to this relay
	forbidden bool  // it has addresses that must not be contacted
	err       error // of the look-up
}

// findAll looks up the addresses of hosts at the same time.
func (r *Router) findAll(ctx context.Context, t target, hosts []MX) []found {
	out := make([]found, len(hosts))
	var wg sync.WaitGroup
	for i, mx := range hosts[1:] {
		wg.Go(func() { out[i+1] = r.find(ctx, t, mx.Host) })
	}
	out[0] = r.find(ctx, t, hosts[0].Host)
	wg.Wait()
	return out
}

// find looks up the addresses of a host.
func (r *Router) find(ctx context.Context, t target, host string) found {
	answer, err := r.resolver.Addrs(ctx, host)
	if err != nil {
		return found{err: err}
	}
	return r.check(t, host, answer)
}

// check makes hops of the addresses that may be contacted, of the two families
// in turn and of each in random order, IPv6 first.
func (r *Router) check(t target, host string, answer AddrAnswer) found {
	var f found
	keep := func(addrs []netip.Addr) []netip.Addr {
		kept := make([]netip.Addr, 0, len(addrs))
		for _, a := range addrs {
			a = a.Unmap()
			switch {
			case r.self.is(netip.AddrPortFrom(a, t.port)):
				f.self = true
			case r.denySpecial && !t.explicit && Forbidden(a):
				f.forbidden = true
			default:
				kept = append(kept, a)
			}
		}
		rand.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
		return kept
	}
	v6, v4 := keep(answer.V6), keep(answer.V4)
	for len(f.hops) < maxPerHost && len(v6)+len(v4) > 0 {
		for _, family := range []*[]netip.Addr{&v6, &v4} {
			if len(*family) > 0 && len(f.hops) < maxPerHost {
				f.hops = append(f.hops, relay.Hop{
					Name: host, Addr: netip.AddrPortFrom((*family)[0], t.port),
					Canonical: answer.Name, Authentic: answer.Authentic,
				})
				*family = (*family)[1:]
			}
		}
	}
	return f
}

// alone is the outcome where f is the only host there is.
func (f found) alone() ([]relay.Hop, *relay.RouteError) {
	switch {
	case f.err != nil:
		return nil, lookupFault(f.err)
	case f.self:
		return nil, &relay.RouteError{Cause: queue.CauseLoopsBack, Err: errSelf}
	case len(f.hops) == 0 && !f.forbidden:
		return nil, &relay.RouteError{Cause: queue.CauseNoMX, Err: errNoAddress}
	}
	return gather([]found{f})
}

// gather puts the hosts' hops together, or says why there are none. What may
// change outweighs what does not.
func gather(all []found) ([]relay.Hop, *relay.RouteError) {
	var hops []relay.Hop
	used, forbidden, unknown := 0, false, false
	for _, f := range all {
		if len(f.hops) > 0 && used < maxHosts {
			hops = append(hops, f.hops[:min(len(f.hops), maxHops-len(hops))]...)
			used++
		}
		forbidden = forbidden || f.forbidden
		unknown = unknown || f.err != nil && !errors.Is(f.err, ErrNoSuchName)
	}
	switch {
	case len(hops) > 0:
		return hops, nil
	case unknown:
		return nil, &relay.RouteError{Cause: queue.CauseDNSTemporary, Err: errServers}
	case forbidden:
		return nil, &relay.RouteError{Cause: queue.CauseAddressForbidden, Err: errAddress}
	}
	return nil, &relay.RouteError{Cause: queue.CauseMXUnresolved, Err: errNoAddress}
}

// lookupFault is the fault that the error of a look-up stands for.
func lookupFault(err error) *relay.RouteError {
	if errors.Is(err, ErrNoSuchName) {
		return &relay.RouteError{Cause: queue.CauseNoSuchDomain, Err: err}
	}
	return &relay.RouteError{Cause: queue.CauseDNSTemporary, Err: err}
}
