package main

import (
	"context"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// processors gives the relay one processor while it has little to do, and all
// as soon as it has more. A message passes through half a dozen goroutines. Where a second
// processor idles, each of those steps wakes it to look for work that is not there,
// and takes it from whoever could use it: the client, the next hop.
// A nil processors leaves things as they are.
type processors struct {
	set        func(all bool)
	accepting  atomic.Int32 // messages being taken
	delivering atomic.Int32 // attempts being made
	stirred    atomic.Bool  // there was more than little to do since the last look

	mu      sync.Mutex
	all     atomic.Bool // changes under mu
	look    *time.Timer
	stopped bool
	done    chan struct{} // closed when stopped
}

// What counts as little: one client at a time, and as many deliveries as
// overlap behind it. After so long with no more than that one processor does.
const (
	fewAccepts    = 1
	fewDeliveries = 3
	calmTime      = time.Second
)

// newProcessors takes charge of the process's processors, unless whoever
// started it has chosen their number. Until loaded is closed all are needed.
func newProcessors(loaded <-chan struct{}) *processors {
	if os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) < 2 {
		return nil
	}
	return governProcessors(loaded, func(all bool) {
		if all {
			runtime.SetDefaultGOMAXPROCS() // as many as the control group allows now
		} else {
			runtime.GOMAXPROCS(1)
		}
	})
}

func governProcessors(loaded <-chan struct{}, set func(all bool)) *processors {
	p := &processors{set: set, done: make(chan struct{})}
	p.all.Store(true)
	p.look = time.AfterFunc(calmTime, p.rest)
	p.look.Stop()
	go func() {
		select {
		case <-loaded:
			p.rest()
		case <-p.done:
		}
	}()
	return p
}

// stop gives everything back.
func (p *processors) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	close(p.done)
	p.look.Stop()
	p.raise()
}

// begin counts work of one kind, of which few are little.
func (p *processors) begin(kind *atomic.Int32, few int32) {
	if kind.Add(1) <= few {
		return
	}
	if !p.stirred.Load() {
		p.stirred.Store(true)
	}
	if !p.all.Load() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.raise()
	}
}

// raise gives all processors. mu is held.
func (p *processors) raise() {
	if p.all.Load() {
		return
	}
	p.all.Store(true)
	p.set(true)
	if !p.stopped {
		p.look.Reset(calmTime)
	}
}

// rest goes back to one after a calm time.
func (p *processors) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
	case p.stirred.Swap(false):
		p.look.Reset(calmTime)
	default:
		p.all.Store(false)
		p.set(false)
	}
}

// admitted counts the messages that sessions hand to a relay.
type admitted struct {
	inbound.Relay
	processors *processors
}

// Accept implements inbound.Relay.
func (a admitted) Accept(ctx context.Context, e *queue.Envelope, content io.Reader, from relay.Session) (queue.ID, error) {
	a.processors.begin(&a.processors.accepting, fewAccepts)
	defer a.processors.accepting.Add(-1)
	return a.Relay.Accept(ctx, e, content, from)
}

// admitted is the relay that sessions meet, counted where that is of use.
func (p *processors) admitted(r inbound.Relay) inbound.Relay {
	if p == nil {
		return r
	}
	return admitted{r, p}
}

// paced counts the deliveries of a transport.
type paced struct {
	relay.Transport
	processors *processors
}

// Deliver implements relay.Transport.
func (t paced) Deliver(ctx context.Context, c *queue.Claim) relay.Result {
	t.processors.begin(&t.processors.delivering, fewDeliveries)
	defer t.processors.delivering.Add(-1)
	return t.Transport.Deliver(ctx, c)
}

// paced is the transport, counted where that is of use.
func (p *processors) paced(t relay.Transport) relay.Transport {
	if p == nil {
		return t
	}
	return paced{t, p}
}
