package mtasts

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"tacet/relay"
)

// Source is where policies come from.
type Source interface {
	// TXT returns the TXT records of name; a name that does not exist has none.
	TXT(ctx context.Context, name string) ([]string, error)
	// Dial connects to port 443 of the host.
	Dial(ctx context.Context, host string) (net.Conn, error)
}

// Keeper keeps what the cache knows over restarts.
type Keeper interface {
	// Load returns what Save was given last, or nothing.
	Load() ([]byte, error)
	// Save replaces what is kept, whole or not at all.
	Save([]byte) error
}

// Config is how a [Cache] works.
type Config struct {
	Source Source
	Keeper Keeper         // nil: nothing is kept
	Roots  *x509.CertPool // for web servers; nil: those of the system
	Failed func(error)    // is told that the Keeper failed; nil: no one
}

// The pace and the limits of the cache.
const (
	refreshEvery = 24 * time.Hour  // RFC 8461 §3.3: policies are fetched again before they end
	retryAfter   = 5 * time.Minute // after a fetch that failed (RFC 8461 §3.3)
	saveAfter    = 10 * time.Second
	maxEntries   = 10_000
	maxOctets    = 16 << 20 // of policies' texts, over all domains
	maxFailed    = 1_000    // domains whose failed fetch is remembered
	maxFetches   = 20       // at the same time
)

// Cache knows policies by domain. All methods may be called at the same time.
type Cache struct {
	config Config
	http   *http.Client
	slots  chan struct{} // as many fetches at the same time

	mu      sync.Mutex
	entries map[string]*entry
	octets  int
	failed  map[string]failed
	flights map[string]chan struct{} // closed when the fetch has ended
	save    *time.Timer
	dirty   bool // something is known that is not saved
	closed  bool

	saving sync.Mutex // held while the Keeper is at work

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	fetches sync.WaitGroup
}

// entry is the policy of one domain. It is never changed.
type entry struct {
	id      string
	fetched time.Time
	policy  *Policy
}

func (e *entry) expires() time.Time { return e.fetched.Add(e.policy.MaxAge) }

// stale tells that the policy should be fetched again before it ends.
func (e *entry) stale(now time.Time) bool {
	return now.Sub(e.fetched) > min(refreshEvery, e.policy.MaxAge/2)
}

func (e *entry) cost() int {
	n := 256
	for _, line := range e.policy.Text {
		n += len(line) + 16
	}
	return n
}

// failed is a fetch that failed, and when the next may be tried.
type failed struct {
	failure relay.TLSFailure
	until   time.Time
}

// New makes a cache with what its Keeper has. The error is the Keeper's, and
// the cache works all the same.
func New(c Config) (*Cache, error) {
	cache := &Cache{
		config: c, http: newHTTP(c.Source.Dial, c.Roots), slots: make(chan struct{}, maxFetches),
		entries: make(map[string]*entry), failed: make(map[string]failed), flights: make(map[string]chan struct{}),
	}
	cache.ctx, cache.cancel = context.WithCancel(context.Background())
	return cache, cache.load()
}

// Close ends what is under way and saves what is known.
func (c *Cache) Close() error {
	c.cancel()
	c.mu.Lock()
	c.closed = true
	if c.save != nil {
		c.save.Stop()
	}
	c.mu.Unlock()
	c.fetches.Wait()
	return c.store()
}

// Policy is what is known of the domain's policy (RFC 8461 §5.1): nil without
// one, and then the failure says whether there should be one. It may take a
// minute where a policy is new, and otherwise as long as a look-up in the DNS.
func (c *Cache) Policy(ctx context.Context, domain string) (*Policy, relay.TLSFailure) {
	records, err := c.config.Source.TXT(ctx, "_mta-sts."+domain)
	id, published := parseRecord(records)
	published = published && err == nil
	for {
		c.mu.Lock()
		now := time.Now()
		e := c.valid(domain, now)
		if e != nil && (!published || id == e.id) {
			if e.stale(now) {
				c.refresh(domain, e.id)
			}
			c.mu.Unlock()
			return e.policy, relay.TLSFailureNone
		}
		if !published {
			c.mu.Unlock()
			return nil, relay.TLSFailureNone
		}
		if f, ok := c.failed[domain]; ok && now.Before(f.until) {
			c.mu.Unlock()
			return e.orNothing(f.failure)
		}
		flight := c.begin(domain, id)
		c.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return e.orNothing(relay.FailedSTSFetch)
		}
		if c.ctx.Err() != nil {
			return e.orNothing(relay.FailedSTSFetch)
		}
	}
}

// orNothing is the old policy if there is one, and otherwise why there is none.
func (e *entry) orNothing(f relay.TLSFailure) (*Policy, relay.TLSFailure) {
	if e != nil {
		return e.policy, relay.TLSFailureNone
	}
	return nil, f
}

// valid returns the entry of domain, if it has not ended. c.mu is held.
func (c *Cache) valid(domain string, now time.Time) *entry {
	e := c.entries[domain]
	if e == nil || now.Before(e.expires()) {
		return e
	}
	c.drop(domain)
	return nil
}

// refresh fetches in the background, unless that failed a short while ago. c.mu is held.
func (c *Cache) refresh(domain, id string) {
	if f, ok := c.failed[domain]; !ok || time.Now().After(f.until) {
		c.begin(domain, id)
	}
}

// begin starts a fetch, or joins the one under way. c.mu is held.
func (c *Cache) begin(domain, id string) <-chan struct{} {
	if flight, ok := c.flights[domain]; ok {
		return flight
	}
	flight := make(chan struct{})
	if c.closed {
		close(flight)
		return flight
	}
	c.flights[domain] = flight
	c.fetches.Go(func() {
		defer close(flight)
		c.update(domain, id)
	})
	return flight
}

// update fetches the policy that the DNS names id, and keeps it, or notes that it can't be had.
func (c *Cache) update(domain, id string) {
	var p *Policy
	err := context.Canceled
	select {
	case c.slots <- struct{}{}:
		var e error
		p, e = c.fetch(c.ctx, domain)
		err = e
		<-c.slots
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, domain)
	switch f, ok := errors.AsType[*fetchFault](err); {
	case err == nil:
		delete(c.failed, domain)
		c.put(domain, &entry{id: id, fetched: time.Now().UTC(), policy: p})
	case ok:
		if len(c.failed) >= maxFailed {
			clear(c.failed)
		}
		c.failed[domain] = failed{f.failure, time.Now().Add(retryAfter)}
	}
}

// put keeps e and makes room for it. c.mu is held.
func (c *Cache) put(domain string, e *entry) {
	c.drop(domain)
	for len(c.entries) >= maxEntries || c.octets+e.cost() > maxOctets {
		c.evict()
	}
	c.entries[domain] = e
	c.octets += e.cost()
	c.saveSoon()
}

// evict drops the policy that was fetched longest ago, of a few that the map's
// random order gives. c.mu is held.
func (c *Cache) evict() {
	oldest, seen := "", 0
	for domain, e := range c.entries {
		if oldest == "" || e.fetched.Before(c.entries[oldest].fetched) {
			oldest = domain
		}
		if seen++; seen == 16 {
			break
		}
	}
	c.drop(oldest)
}

func (c *Cache) drop(domain string) {
	if e, ok := c.entries[domain]; ok {
		delete(c.entries, domain)
		c.octets -= e.cost()
	}
}
