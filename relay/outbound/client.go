package outbound

import (
	"context"
	"crypto/tls"
	"sync"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay"
)

// tlsSessions is how many TLS sessions are remembered for resumption, a few KB each.
const tlsSessions = 1000

// Client hands messages to next hops. It fills [relay.Transport]. All its
// methods may be called at the same time.
type Client struct {
	config   Config
	resolver Resolver
	pool     *pool
	sessions tls.ClientSessionCache
	buffers  sync.Pool // of *buffers
	attempts sync.Pool // of *attempt
	stats    counters

	introduces atomic.Bool // a session was held in a client's name

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

var _ relay.Transport = (*Client)(nil)

// New makes a Client that asks resolver for next hops. It opens nothing yet.
func New(config Config, resolver Resolver) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{
		config:   config.withDefaults(),
		resolver: resolver,
		pool:     newPool(),
		sessions: tls.NewLRUClientSessionCache(tlsSessions),
		buffers:  sync.Pool{New: newBuffers},
		attempts: sync.Pool{New: func() any { return new(attempt) }},
		ctx:      ctx,
		cancel:   cancel,
	}
}

// Close ends every connection at once, also one that waits for its final
// answer: that attempt is then on record as ambiguous. Attempts that come
// later end with CauseShutdown.
func (c *Client) Close() {
	c.cancel()
	open := c.pool.close()
	c.CloseIdle()
	for _, s := range open {
		s.kill()
	}
}

// CloseIdle ends the connections that are kept without work. It is called when
// routes or TLS policies have changed: a kept connection stays under those it was opened with.
func (c *Client) CloseIdle() {
	for _, s := range c.pool.drainAll() {
		s.close()
	}
}

// counters are the running numbers behind [Stats].
type counters struct {
	Opened, Reused, Stale, TLS, Plain atomic.Int64
	Causes                            [queue.NumCauses]atomic.Int64
}

// Stats counts what the client has done since it was made.
type Stats struct {
	Opened int64                  // connections opened
	Reused int64                  // attempts that found a kept connection
	Stale  int64                  // of these, connections that turned out to be gone
	TLS    int64                  // sessions that got ready for MAIL under TLS
	Plain  int64                  // and in the clear
	Causes [queue.NumCauses]int64 // recipients left without a deciding answer, by queue.Cause
}

// Stats returns the numbers as they are now.
func (c *Client) Stats() Stats {
	s := Stats{
		Opened: c.stats.Opened.Load(),
		Reused: c.stats.Reused.Load(),
		Stale:  c.stats.Stale.Load(),
		TLS:    c.stats.TLS.Load(),
		Plain:  c.stats.Plain.Load(),
	}
	for i := range s.Causes {
		s.Causes[i] = c.stats.Causes[i].Load()
	}
	return s
}
