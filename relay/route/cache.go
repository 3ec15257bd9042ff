package route

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"tacet/relay"
)

// The limits of the cache of DNS answers.
const (
	cacheEntries = 10_000
	cacheOctets  = 16 << 20 // as estimated by entry.cost
	minTTL       = 5 * time.Second
	maxTTL       = time.Hour
	maxNegative  = 5 * time.Minute
	errorTTL     = 5 * time.Second // RFC 2308 §7: a failure is not asked for again at once
)

// question is the key of an answer.
type question struct {
	name  string
	qtype uint16
}

// entry is one answer, or the error there was instead. It is never changed
// once it is in the cache.
type entry struct {
	Answer
	mx      []MX
	addrs   []netip.Addr
	tlsa    []relay.TLSA
	txt     []string // or the name of an address
	err     error
	expires time.Time
}

// cost estimates the memory that q and e take up, in octets.
func (e *entry) cost(q question) int {
	n := 256 + len(q.name) + len(e.Name) + 24*len(e.addrs)
	for _, mx := range e.mx {
		n += 24 + len(mx.Host)
	}
	for i := range e.tlsa {
		n += 32 + len(e.tlsa[i].Data)
	}
	for _, txt := range e.txt {
		n += 16 + len(txt)
	}
	return n
}

// empty tells that the answer has no record of the type asked for.
func (e *entry) empty() bool { return len(e.mx)+len(e.addrs)+len(e.tlsa)+len(e.txt) == 0 }

// cache keeps answers for as long as their TTL says, within limits, and lets
// one look-up serve all who ask the same at the same time.
type cache struct {
	mu      sync.Mutex
	entries map[question]*entry
	octets  int
	flights map[question]*flight
}

// flight is a look-up under way.
type flight struct {
	done  chan struct{} // closed when entry is set
	entry *entry        // nil if the one who asked gave up
}

func newCache() *cache {
	return &cache{entries: make(map[question]*entry), flights: make(map[question]*flight)}
}

// get returns the entry for q: the one kept, that of a look-up under way, or
// what ask returns. If the caller that asks gives up, one who waits asks anew.
func (c *cache) get(ctx context.Context, q question, ask func(context.Context, question) *entry) (*entry, error) {
	for {
		c.mu.Lock()
		if e, ok := c.entries[q]; ok {
			if time.Now().Before(e.expires) {
				c.mu.Unlock()
				return e, nil
			}
			c.drop(q, e)
		}
		f, waiting := c.flights[q]
		if !waiting {
			f = &flight{done: make(chan struct{})}
			c.flights[q] = f
		}
		c.mu.Unlock()
		if !waiting {
			return c.fly(ctx, q, f, ask)
		}
		select {
		case <-f.done:
			if f.entry != nil {
				return f.entry, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fly asks, keeps the answer and hands it to those who wait for it.
func (c *cache) fly(ctx context.Context, q question, f *flight, ask func(context.Context, question) *entry) (*entry, error) {
	var e *entry
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e != nil {
			c.put(q, e)
		}
		f.entry = e
		delete(c.flights, q)
		close(f.done)
	}()
	got := ask(ctx, q)
	if got.err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx) // says nothing of the name
	}
	got.expires = time.Now().Add(clampTTL(got))
	e = got
	return e, nil
}

func clampTTL(e *entry) time.Duration {
	switch {
	case e.err != nil && e.err != ErrNoSuchName:
		return errorTTL
	case e.empty():
		return min(max(e.TTL, minTTL), maxNegative)
	}
	return min(max(e.TTL, minTTL), maxTTL)
}

// put keeps e and makes room for it. c.mu is held.
func (c *cache) put(q question, e *entry) {
	if old, ok := c.entries[q]; ok {
		c.drop(q, old)
	}
	cost := e.cost(q)
	now := time.Now()
	for len(c.entries) >= cacheEntries || c.octets+cost > cacheOctets {
		c.evict(now)
	}
	c.entries[q] = e
	c.octets += cost
}

// evict drops, of a few entries that the map's random order gives, those that
// have expired, or else the one that expires first. c.mu is held.
func (c *cache) evict(now time.Time) {
	var first question
	var soonest *entry
	seen, dropped := 0, false
	for q, e := range c.entries {
		switch {
		case !now.Before(e.expires):
			c.drop(q, e)
			dropped = true
		case soonest == nil || e.expires.Before(soonest.expires):
			first, soonest = q, e
		}
		if seen++; seen == 16 {
			break
		}
	}
	if !dropped && soonest != nil {
		c.drop(first, soonest)
	}
}

func (c *cache) drop(q question, e *entry) {
	delete(c.entries, q)
	c.octets -= e.cost(q)
}
