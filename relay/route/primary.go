package route

import (
	"context"
	"errors"
	"slices"
	"strings"

	"tacet/queue"
	"tacet/relay"
)

// A relay domain is one that this relay is a fallback MX of: its mail goes to
// the domain's primary and to no one else, whatever smarthost takes the rest and
// whatever DNS says. The primary is, in this order, the next hop of a rule that
// names the domain, the hosts of [Config].Primary, or the hosts of the domain's MX that
// are preferred to this relay.

var (
	errNotMX     = errors.New("the domain's MX records do not name this relay, so none of them is known to be its primary")
	errNoPrimary = errors.New("no MX record is preferred to this relay's own")
)

// ParseHost reads the name or address of one host, whose MX records are never
// looked up: "mail.example.org", "mail.example.org:2525", "192.0.2.1",
// "[192.0.2.1]:25" or "[2001:db8::1]". The port is 25 if it is not given.
func ParseHost(s string) (NextHop, error) {
	if s != "" && s[0] != '[' {
		host, port, found := strings.Cut(s, ":")
		if found && strings.Contains(port, ":") { // an IPv6 address without brackets
			host, port, found = s, "", false
		}
		if s = "[" + host + "]"; found {
			s += ":" + port
		}
	}
	h, err := ParseNextHop(s)
	if err != nil || h.IsZero() {
		return NextHop{}, errHost
	}
	return h, nil
}

var errHost = errors.New(`a host is "mail.example.org", "192.0.2.1" or "[2001:db8::1]", with ":port" behind it unless that is 25`)

// primaries notes the way of each relay domain.
func (r *Router) primaries(c Config) {
	way := choice{primary: true, intro: c.Introduction, tls: c.TLS, Holds: c.Holds}
	way.Every = 0 // what was kept for it is its own, and leaves at once
	if c.PrimaryTLS != nil {
		way.tls = *c.PrimaryTLS
	}
	if len(c.Primary) > 0 {
		way.hop, way.others = c.Primary[0], c.Primary[1:]
	}
	for name := range NewDomains(c.RelayDomains) {
		ch := way
		if rule, ok := r.rules.named(name); ok && !rule.hop.IsZero() {
			ch = choice{primary: true, intro: c.Introduction, hop: rule.hop, tls: rule.tls, auth: rule.auth, Holds: rule.Holds}
		}
		if r.relays == nil {
			r.relays = make(map[string]choice)
		}
		r.relays[name] = r.name(ch)
	}
}

// Primaries are the destinations that mail for relay domains waits in.
func (r *Router) Primaries() []queue.Destination {
	var all []queue.Destination
	for name, ch := range r.relays {
		d := ch.dest
		if d == "" {
			d = queue.Destination(name)
		}
		if !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return all
}

// toPrimary finds the hops of a primary. No fault is permanent: what is wrong with
// it is ours to mend, and its mail waits.
func (r *Router) toPrimary(ctx context.Context, route *relay.Route, ch choice, domain string) ([]relay.Hop, *relay.RouteError) {
	if ch.hop.IsZero() {
		route.Domain = domain
		hops, fault := r.preferred(ctx, target{port: smtpPort, route: route}, domain)
		return hops, recoverable(fault)
	}
	var hops []relay.Hop
	hops, fault := r.toNextHop(ctx, route, ch.hop)
	for _, other := range ch.others {
		more, f := r.toNextHop(ctx, route, other)
		hops = append(hops, more...)
		if fault == nil || f != nil && !f.Cause.Permanent() {
			fault = f
		}
	}
	if len(hops) > 0 {
		return hops[:min(len(hops), maxHops)], nil
	}
	return nil, recoverable(fault)
}

// preferred finds the hosts of a relay domain's MX that are preferred to this
// relay. Unlike for other domains, where DNS is the authority, this relay
// has to be among them, and there is no implicit MX.
func (r *Router) preferred(ctx context.Context, t target, domain string) ([]relay.Hop, *relay.RouteError) {
	answer, err := r.resolver.MX(ctx, domain)
	if err != nil {
		return nil, lookupFault(err)
	}
	t.route.Authentic = answer.Authentic
	hosts := usable(answer.Hosts)
	own := slices.IndexFunc(hosts, func(mx MX) bool { return mx.Host == r.hostname })
	if own < 0 && len(hosts) > 0 { // by another name
		some := r.findAll(ctx, t, hosts[:min(len(hosts), maxTried)])
		own = slices.IndexFunc(some, func(f found) bool { return f.self })
	}
	if own < 0 {
		return nil, &relay.RouteError{Cause: queue.CauseMXUnresolved, Err: errNotMX}
	}
	better := slices.IndexFunc(hosts, func(mx MX) bool { return mx.Preference == hosts[own].Preference })
	if better == 0 {
		return nil, &relay.RouteError{Cause: queue.CauseLoopsBack, Err: errNoPrimary}
	}
	return r.hopsOf(ctx, t, hosts[:better])
}

// Domains is a set of domains, each in its one form.
type Domains map[string]struct{}

// NewDomains makes the set of what of names are domain names.
func NewDomains(names []string) Domains {
	set := make(Domains, len(names))
	for _, name := range names {
		if name, ok := normalDomain(name); ok {
			set[name] = struct{}{}
		}
	}
	return set
}

// Has tells whether the domain, as it stood on the wire, is in the set. It goes by
// the same form as [Router.Destination].
func (s Domains) Has(domain queue.Domain) bool {
	if len(s) == 0 {
		return false
	}
	name, ok := normalDomain(string(domain))
	if ok {
		_, ok = s[name]
	}
	return ok
}
