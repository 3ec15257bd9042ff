package reputation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"

	"tacet/queue"
	"tacet/relay"
)

// Resolver is the DNS as lists are asked by it.
type Resolver interface {
	// A returns the IPv4 addresses of a name, none if it does not exist. ask is called
	// before a question goes out, and not if the answer is known already.
	A(ctx context.Context, name string, ask func()) ([]netip.Addr, error)
}

// Lists asks DNS block lists (RFC 5782). All methods may be called at the same time.
type Lists struct {
	dns    Resolver
	ledger *Ledger

	mu       sync.Mutex
	breakers map[string]*breaker // by zone
}

// NewLists makes lists that are asked by dns and counted in the ledger.
func NewLists(dns Resolver, l *Ledger) *Lists {
	return &Lists{dns: dns, ledger: l, breakers: make(map[string]*breaker)}
}

func (l *Lists) breaker(zone string) *breaker {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.breakers[zone]
	if b == nil {
		b = &breaker{}
		l.breakers[zone] = b
	}
	return b
}

var errRefused = errors.New("the list refuses to answer")

// Client tells whether a zone lists a client's address.
func (l *Lists) Client(ctx context.Context, zone string, client netip.Addr) (bool, error) {
	return l.ask(ctx, question{service: zone, kind: Client, key: reversed(client), zone: zone})
}

// Sender tells whether a zone lists a sender's domain. What is no domain is not asked about.
func (l *Lists) Sender(ctx context.Context, zone string, domain queue.Domain) (bool, error) {
	name, err := idna.Lookup.ToASCII(string(domain))
	if err != nil || name == "" || name[0] == '[' {
		return false, nil
	}
	return l.ask(ctx, question{service: zone, kind: Sender, key: name, zone: zone})
}

// HashList is a zone that lists digests of one kind, by the base32 form of their SHA-256.
type HashList struct {
	*Lists
	Service string // in the ledger
	Kind    Kind
	Zone    string
	Answers []netip.Prefix // that mean it is listed; none: all but refusals
}

// Listed tells whether the list has the digest.
func (h HashList) Listed(ctx context.Context, d relay.Digest) (bool, error) {
	return h.ask(ctx, question{h.Service, h.Kind, d.Label(), h.Zone, h.Answers})
}

// question is one name that a list is asked for.
type question struct {
	service string
	kind    Kind
	key     string // what the list is to know: made of a digest, an address or a domain
	zone    string
	want    []netip.Prefix
}

func (l *Lists) ask(ctx context.Context, q question) (hit bool, err error) {
	rest := l.breaker(q.zone)
	if !rest.allow(time.Now()) {
		return false, errResting
	}
	asked := false
	answer, err := l.dns.A(ctx, q.key+"."+q.zone, func() {
		asked = true
		l.ledger.count(q.service, q.kind, Counts{Asked: 1})
	})
	if err == nil {
		hit, err = listing(answer, q.want)
	}
	if asked && !errors.Is(ctx.Err(), context.Canceled) { // nobody waits for the answer any more
		rest.note(err == nil, time.Now())
		l.ledger.count(q.service, q.kind, Counts{Listed: one(hit), Failed: one(err != nil)})
	}
	if err != nil {
		return false, fmt.Errorf("ask a block list: %w", err)
	}
	return hit, nil
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// listing tells whether an answer means that the name is listed: an address in
// 127.0.0.0/8 (RFC 5782 §2.1), but for those by which lists refuse to answer.
func listing(answer []netip.Addr, want []netip.Prefix) (hit bool, err error) {
	for _, a := range answer {
		b := a.Unmap()
		if !b.Is4() || b.As4()[0] != 127 {
			continue
		}
		if b.As4()[1] == 255 && b.As4()[2] == 255 {
			err = errRefused
			continue
		}
		hit = hit || len(want) == 0 || slices.ContainsFunc(want, func(p netip.Prefix) bool { return p.Contains(b) })
	}
	if hit {
		err = nil
	}
	return hit, err
}

// reversed is an address as lists have it (RFC 5782 §2.1, §2.4).
func reversed(a netip.Addr) string {
	var b strings.Builder
	if a = a.Unmap(); a.Is4() {
		octets := a.As4()
		for i := 3; i >= 0; i-- {
			if i < 3 {
				b.WriteByte('.')
			}
			b.WriteString(strconv.Itoa(int(octets[i])))
		}
		return b.String()
	}
	const digits = "0123456789abcdef"
	octets := a.As16()
	for i := 15; i >= 0; i-- {
		if i < 15 {
			b.WriteByte('.')
		}
		b.Write([]byte{digits[octets[i]&15], '.', digits[octets[i]>>4]})
	}
	return b.String()
}
