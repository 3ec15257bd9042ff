package route

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// StubConfig configures a [Stub].
type StubConfig struct {
	// Servers are the recursive resolvers to ask, in their order. Empty:
	// those of ResolvConf.
	Servers []netip.AddrPort
	// Trusted are those whose AD bit is believed, beside those on loopback:
	// the way to them must be safe.
	Trusted []netip.AddrPort
	// ResolvConf is read anew when it changes; empty: /etc/resolv.conf. The AD bit of its servers is trusted if
	// they are on loopback or it says "options trust-ad".
	ResolvConf string
}

// Stub asks recursive resolvers and keeps what they answer. It fills
// [Resolver]. All methods may be called at the same time.
type Stub struct {
	conf   *resolvConf
	cache  *cache
	turn   atomic.Uint32          // counts up where servers are asked in rotation
	detour atomic.Pointer[detour] // the server to ask first while an earlier one is silent; may be nil
	slots  chan struct{}          // as many look-ups at the same time, and descriptors
	wire   exchanger
}

// exchanger puts one query to one server and returns its answer, which
// belongs to the query. The stub calls it.
type exchanger interface {
	exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error)
}

// maxQueries is how many queries are under way at the same time at most.
const maxQueries = 256

// NewStub makes a resolver. It asks nothing yet and owns no goroutine.
func NewStub(c StubConfig) *Stub {
	return &Stub{
		conf:  newResolvConf(c),
		cache: newCache(),
		slots: make(chan struct{}, maxQueries),
		wire:  wire{},
	}
}

// MX implements [Resolver].
func (s *Stub) MX(ctx context.Context, domain string) (MXAnswer, error) {
	e, err := s.cache.get(ctx, question{domain, dns.TypeMX}, s.lookup)
	if err == nil {
		err = e.err
	}
	if err != nil {
		return MXAnswer{}, err
	}
	return MXAnswer{e.Answer, e.mx}, nil
}

// Addrs implements [Resolver]. Both families are asked for at the same time.
func (s *Stub) Addrs(ctx context.Context, host string) (AddrAnswer, error) {
	var e4, e6 *entry
	var err4, err6 error
	var wg sync.WaitGroup
	wg.Go(func() { e6, err6 = s.cache.get(ctx, question{host, dns.TypeAAAA}, s.lookup) })
	e4, err4 = s.cache.get(ctx, question{host, dns.TypeA}, s.lookup)
	wg.Wait()
	if err4 == nil {
		err4 = e4.err
	}
	if err6 == nil {
		err6 = e6.err
	}
	switch {
	case err4 == nil && err6 == nil:
		return AddrAnswer{
			Answer: Answer{e4.Name, e4.Authentic && e6.Authentic, min(e4.TTL, e6.TTL)},
			V4:     e4.addrs, V6: e6.addrs,
		}, nil
	case err4 == nil && (len(e4.addrs) > 0 || err6 == ErrNoSuchName):
		return AddrAnswer{Answer: e4.Answer, V4: e4.addrs}, nil
	case err6 == nil && (len(e6.addrs) > 0 || err4 == ErrNoSuchName):
		return AddrAnswer{Answer: e6.Answer, V6: e6.addrs}, nil
	case err4 != nil && err4 != ErrNoSuchName:
		return AddrAnswer{}, err4
	case err6 != nil:
		return AddrAnswer{}, err6
	}
	return AddrAnswer{}, err4
}

// A returns the IPv4 addresses of a name, none if it does not exist. ask is called
// before a question goes out, and not if the answer is kept already.
func (s *Stub) A(ctx context.Context, name string, ask func()) ([]netip.Addr, error) {
	e, err := s.cache.get(ctx, question{name, dns.TypeA}, func(ctx context.Context, q question) *entry {
		ask()
		return s.lookup(ctx, q)
	})
	switch {
	case err != nil:
		return nil, err
	case e.err == ErrNoSuchName:
		return nil, nil
	}
	return e.addrs, e.err
}

// lookup asks the servers for q and follows a CNAME chain that the answer leaves
// open. The entry has an error of its own if there is no answer.
func (s *Stub) lookup(ctx context.Context, q question) *entry {
	e := &entry{Answer: Answer{Name: q.name, Authentic: true, TTL: maxTTL}}
	for range maxChain {
		msg, trusted, err := s.ask(ctx, question{e.Name, q.qtype})
		if err != nil {
			e.err = err
			return e
		}
		e.Authentic = e.Authentic && trusted && msg.AuthenticatedData
		more, err := e.take(msg, q.qtype)
		if err != nil || !more {
			e.err = err
			return e
		}
	}
	e.err = errChain
	return e
}

// take reads one response into e: it follows the CNAME records from e.Name
// on and keeps the records at the chain's end. more tells that the chain ended at a
// name of which the response says nothing.
func (e *entry) take(msg *dns.Msg, qtype uint16) (more bool, err error) {
	start := e.Name
	if qtype != dns.TypeCNAME {
		if err := e.follow(msg.Answer); err != nil {
			return false, err
		}
	}
	for _, rr := range msg.Answer {
		h := rr.Header()
		if h.Class != dns.ClassINET || h.Rrtype != qtype || !sameName(h.Name, e.Name) {
			continue
		}
		e.TTL = min(e.TTL, time.Duration(h.Ttl)*time.Second)
		switch rr := rr.(type) {
		case *dns.MX:
			e.mx = append(e.mx, MX{plainName(rr.Mx), rr.Preference})
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A); ok {
				e.addrs = append(e.addrs, a.Unmap())
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
				e.addrs = append(e.addrs, a)
			}
		default:
			e.takePolicy(rr)
		}
	}
	e.trim()
	if !e.empty() {
		return false, nil
	}
	soa := e.negative(msg.Ns)
	if msg.Rcode == dns.RcodeNameError {
		return false, ErrNoSuchName
	}
	return !soa && e.Name != start, nil
}

// follow sets e.Name to the end of the CNAME chain in rrs.
func (e *entry) follow(rrs []dns.RR) error {
	for range maxChain {
		i := slices.IndexFunc(rrs, func(rr dns.RR) bool {
			h := rr.Header()
			return h.Rrtype == dns.TypeCNAME && h.Class == dns.ClassINET && sameName(h.Name, e.Name)
		})
		if i < 0 {
			return nil
		}
		c, ok := rrs[i].(*dns.CNAME)
		if !ok {
			return errChain
		}
		e.Name = plainName(c.Target)
		e.TTL = min(e.TTL, time.Duration(c.Hdr.Ttl)*time.Second)
	}
	return errChain
}

// negative takes the TTL of an answer without records from the zone's SOA
// (RFC 2308 §5).
func (e *entry) negative(authority []dns.RR) bool {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok {
			e.TTL = min(e.TTL, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
			return true
		}
	}
	e.TTL = minTTL
	return false
}

// trim keeps the MX records of the best preference and some addresses, which
// ones of equals by chance, so that a flood of records costs little to keep.
func (e *entry) trim() {
	rand.Shuffle(len(e.mx), func(i, j int) { e.mx[i], e.mx[j] = e.mx[j], e.mx[i] })
	slices.SortStableFunc(e.mx, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	if len(e.mx) > keepMX {
		e.mx = slices.Clone(e.mx[:keepMX])
	}
	if len(e.addrs) > keepAddrs {
		rand.Shuffle(len(e.addrs), func(i, j int) { e.addrs[i], e.addrs[j] = e.addrs[j], e.addrs[i] })
		e.addrs = slices.Clone(e.addrs[:keepAddrs])
	}
}

// ask puts q to the servers, in turn and up to the configured number of
// rounds, until one answers it. trusted tells whether that server's AD bit counts.
func (s *Stub) ask(ctx context.Context, q question) (msg *dns.Msg, trusted bool, err error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	c := s.conf.current()
	first, silent := s.first(c), false
	err = errServers
	for i := range c.attempts * len(c.servers) {
		n := (first + i) % len(c.servers)
		msg, e := s.try(ctx, c.servers[n], c.timeout, q)
		switch {
		case ctx.Err() != nil:
			return nil, false, context.Cause(ctx)
		case e != nil:
			silent = true
			continue
		case msg.Rcode == dns.RcodeSuccess || msg.Rcode == dns.RcodeNameError:
			if silent {
				s.detour.Store(&detour{n, time.Now().Add(detourFor)})
			}
			return msg, s.conf.trusts(c, c.servers[n]), nil
		}
		err = errServFail // SERVFAIL, REFUSED and the like: another server may know better
	}
	return nil, false, err
}

// detour is the server that answered when an earlier one was silent.
type detour struct {
	server int
	until  time.Time
}

// detourFor is for how long the silent server is not asked first.
const detourFor = 30 * time.Second

// first is the index of the server to ask first.
func (s *Stub) first(c *servers) int {
	if c.rotate {
		return int(s.turn.Add(1)) % len(c.servers)
	}
	if d := s.detour.Load(); d != nil && time.Now().Before(d.until) {
		return d.server % len(c.servers)
	}
	return 0
}

// try asks one server, and once more without EDNS if it does not understand
// it (RFC 6891 §7).
func (s *Stub) try(ctx context.Context, server netip.AddrPort, timeout time.Duration, q question) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m := query(q)
	msg, err := s.wire.exchange(ctx, server, m)
	if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented) {
		m = query(q)
		m.Extra = nil
		msg, err = s.wire.exchange(ctx, server, m)
	}
	return msg, err
}

// udpSize is the largest UDP answer asked for: it is not fragmented on the way.
const udpSize = 1232

// query asks for recursion and for the verdict of DNSSEC (RFC 6840 §5.7).
func query(q question) *dns.Msg {
	m := &dns.Msg{}
	m.Id = dns.Id()
	m.RecursionDesired = true
	m.AuthenticatedData = true
	m.Question = []dns.Question{{Name: dns.Fqdn(q.name), Qtype: q.qtype, Qclass: dns.ClassINET}}
	m.SetEdns0(udpSize, true)
	return m
}

// sameName compares a name of a message with a plain name.
func sameName(wire, plain string) bool {
	if wire == "." {
		return plain == "."
	}
	return strings.EqualFold(strings.TrimSuffix(wire, "."), plain)
}

// plainName is a name of a message in lower case and without its final dot;
// the root remains ".".
func plainName(wire string) string {
	if wire == "." {
		return wire
	}
	return strings.ToLower(strings.TrimSuffix(wire, "."))
}
