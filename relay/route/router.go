package route

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"tacet/queue"
	"tacet/relay"
)

// Config configures a [Router]. Its parts were read by [ParseNextHop],
// [ParsePattern] and [ParseServer], so that a Router is made without error.
type Config struct {
	Hostname   string           // of this relay: an MX of this name is the relay itself
	Postmaster queue.Domain     // where mail to "Postmaster" without a domain goes; empty: Hostname
	Listeners  []netip.AddrPort // where this relay listens; with an unspecified address: on all of the machine's
	Addresses  []netip.Addr     // further addresses that lead to this relay, such as the public one before a NAT

	NextHop NextHop         // for all that no rule selects; zero: the MX of the recipient's domain
	Auth    *relay.Login    // at NextHop; nil: none
	TLS     relay.TLSPolicy // where no rule says otherwise
	Holds   Holds           // where no rule selects
	Rules   []Rule          // the first that selects a domain counts

	Fallback NextHop // for mail that no MX of its domain takes for now; zero: it waits

	RelayDomains []string           // this relay is a fallback MX of these: see primary.go
	Primary      []NextHop          // their primary, the hosts in the order to try them; empty: the MX preferred to this relay
	PrimaryTLS   *relay.TLSPolicy   // towards it; nil: TLS
	Introduction relay.Introduction // how it learns whose mail it is

	DenySpecial bool     // no address in a range that [Forbidden] knows, but for configured next hops
	Resolver    Resolver // nil: a [Stub] with /etc/resolv.conf
	HostsFile   string   // empty: /etc/hosts. Asked first for configured hosts in brackets or without a dot
}

// Rule is one configured route.
type Rule struct {
	Domains Pattern
	NextHop NextHop          // zero: the MX of the recipient's domain
	TLS     *relay.TLSPolicy // nil: Config.TLS
	Holds   Holds
	Auth    *relay.Login // at NextHop; nil: none
}

// Holds is what a destination is held to beside TLS.
type Holds struct {
	relay.Limits
	MaxMessages int // over one connection; 0: as many as the transport sees fit
}

// Router fills [relay.Router], and finds next hops for the transport. All
// methods may be called at the same time.
type Router struct {
	hostname   string
	postmaster queue.Destination
	self       self
	resolver   Resolver
	hosts      *hostsFile

	denySpecial bool
	base        choice // where no rule selects
	fallback    queue.Destination
	rules       rules
	relays      map[string]choice            // by relay domain
	named       map[queue.Destination]choice // every configured next hop

	mu    sync.RWMutex
	cache map[string]queue.Destination // of domains that had to be normalized
}

// choice is what is configured for a destination.
type choice struct {
	dest queue.Destination // empty: the recipient's domain
	hop  NextHop
	tls  relay.TLSPolicy
	auth *relay.Login

	primary bool // of a relay domain
	intro   relay.Introduction
	others  []NextHop // of a primary, to be tried after hop
	Holds
}

// badDomain is the destination of every recipient whose domain is none. It is
// no domain itself, and [Router.Route] refuses it.
const badDomain queue.Destination = "!"

// cachedDomains is how many domains are kept normalized.
const cachedDomains = 2048

// New makes a router. It asks no one yet and owns no goroutine.
func New(c Config) *Router {
	r := &Router{
		self:        newSelf(c),
		resolver:    c.Resolver,
		hosts:       newHostsFile(c.HostsFile),
		denySpecial: c.DenySpecial,
		named:       make(map[queue.Destination]choice),
		cache:       make(map[string]queue.Destination),
	}
	r.hostname, _ = normalDomain(c.Hostname)
	if r.resolver == nil {
		r.resolver = NewStub(StubConfig{})
	}
	r.fallback = r.name(choice{hop: c.Fallback, tls: c.TLS, Holds: c.Holds}).dest
	r.base = r.name(choice{hop: c.NextHop, tls: c.TLS, auth: c.Auth, Holds: c.Holds})
	for _, rule := range c.Rules {
		ch := choice{hop: rule.NextHop, tls: c.TLS, auth: rule.Auth, Holds: rule.Holds}
		if rule.TLS != nil {
			ch.tls = *rule.TLS
		}
		r.rules.add(rule.Domains, r.name(ch))
	}
	r.primaries(c)
	postmaster := c.Postmaster
	if postmaster == "" {
		postmaster = queue.Domain(c.Hostname)
	}
	r.postmaster = r.destination(string(postmaster))
	return r
}

// name gives ch its destination. Routes by the same next hop share it unless
// they differ in TLS, login or limits: mail for one must not use the other's connections. A
// primary shares it with primaries only.
func (r *Router) name(ch choice) choice {
	if ch.hop.IsZero() {
		return ch
	}
	var spec strings.Builder
	spec.WriteString(ch.hop.String())
	for _, other := range ch.others {
		spec.WriteString("," + other.String())
	}
	for n := 1; ; n++ {
		ch.dest = queue.Destination(spec.String())
		if n > 1 {
			ch.dest = queue.Destination(spec.String() + "/" + strconv.Itoa(n))
		}
		other, taken := r.named[ch.dest]
		if !taken {
			r.named[ch.dest] = ch
			return ch
		}
		if other.tls == ch.tls && other.primary == ch.primary && sameLogin(other.auth, ch.auth) && other.Holds == ch.Holds {
			return other
		}
	}
}

func sameLogin(a, b *relay.Login) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// Destination implements [relay.Router]: the configured next hop, or the
// domain in lower case as A-label, or an address literal.
func (r *Router) Destination(to queue.ForwardPath) queue.Destination {
	if r.rules.empty() && r.base.dest != "" && len(r.relays) == 0 {
		return r.base.dest
	}
	domain := string(to.Domain())
	if domain == "" {
		return r.postmaster
	}
	return r.destination(domain)
}

// Limits implements [relay.Router].
func (r *Router) Limits(d queue.Destination) relay.Limits { return r.choiceFor(d).Limits }

func (r *Router) destination(domain string) queue.Destination {
	if isPlainDomain(domain) {
		return r.choose(domain)
	}
	r.mu.RLock()
	d, ok := r.cache[domain]
	r.mu.RUnlock()
	if ok {
		return d
	}
	if name, ok := normalize(domain); ok {
		d = r.choose(name)
	} else if d = r.rules.match("", r.base).dest; d == "" {
		d = badDomain
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= cachedDomains {
		clear(r.cache)
	}
	r.cache[strings.Clone(domain)] = d
	return d
}

// normalize returns a domain or an address literal in its one form.
func normalize(domain string) (string, bool) {
	if a, ok := parseLiteral(domain); ok {
		return literal(a), true
	}
	return normalDomain(domain)
}

// choose is the destination of a normal domain or literal.
func (r *Router) choose(name string) queue.Destination {
	if ch, ok := r.relays[name]; ok {
		if ch.dest == "" {
			return queue.Destination(name)
		}
		return ch.dest
	}
	if d := r.rules.match(name, r.base).dest; d != "" {
		return d
	}
	return queue.Destination(name)
}

// rules finds the first rule that selects a name, in a time that does not
// depend on how many there are.
type rules struct {
	list       []choice
	exact      map[string]int // index of the first rule for the name itself
	subdomains map[string]int // and for those below it
	all        int            // index of the first rule for everything, plus one
}

func (r *rules) empty() bool { return len(r.list) == 0 }

func (r *rules) add(p Pattern, ch choice) {
	if r.exact == nil {
		r.exact, r.subdomains = make(map[string]int), make(map[string]int)
	}
	n := len(r.list)
	r.list = append(r.list, ch)
	index := r.exact
	switch {
	case p.name == "":
		if r.all == 0 {
			r.all = n + 1
		}
		return
	case p.subdomains:
		index = r.subdomains
	}
	if _, ok := index[p.name]; !ok {
		index[p.name] = n
	}
}

// match returns the first rule for name, or otherwise.
func (r *rules) match(name string, otherwise choice) choice {
	first := r.first(name)
	if r.all > 0 {
		first = min(first, r.all-1)
	}
	if first == len(r.list) {
		return otherwise
	}
	return r.list[first]
}

// named returns the first rule that selects name, those for everything aside.
func (r *rules) named(name string) (choice, bool) {
	if first := r.first(name); first < len(r.list) {
		return r.list[first], true
	}
	return choice{}, false
}

// first is the index of that rule, or as many as there are.
func (r *rules) first(name string) int {
	first := len(r.list)
	if first == 0 {
		return 0
	}
	if n, ok := r.exact[name]; ok {
		first = n
	}
	for rest := name; rest != "" && name[0] != '['; {
		_, rest, _ = strings.Cut(rest, ".")
		if n, ok := r.subdomains[rest]; ok {
			first = min(first, n)
		}
	}
	return first
}
