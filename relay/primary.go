package relay

import (
	"context"
	"time"

	"tacet/queue"
)

// A primary is the destination of mail that this relay holds as a fallback
// MX. While it cannot be reached it is probed by a connection alone, not by
// a message, so that its queue keeps its order and no attempt is spent. Once it
// answers, all that waits for it is due, the oldest first; the lane's window keeps
// that from being a rush.

// Prober looks whether hosts answer. relay/outbound fills it.
type Prober interface {
	// Probe tells whether a host of the destination is ready for mail. It
	// sends none, and ends in bounded time.
	Probe(ctx context.Context, d queue.Destination) bool
}

// defaultProbeEvery is how long after a failed probe the next one comes.
const defaultProbeEvery = 30 * time.Second

// schedule is the one that mail at the destination is under.
func (c *Config) schedule(d queue.Destination) *queue.Schedule {
	if c.primary(d) {
		return &c.PrimarySchedule
	}
	return &c.Schedule
}

func (c *Config) primary(d queue.Destination) bool {
	_, ok := c.Primaries[d]
	return ok
}

// byConnection tells whether a lane is to be probed by a connection. r.mu is held.
func (r *Relay) byConnection(l *lane) bool {
	return l.primary && l.suspended() && r.config.Load().Prober != nil
}

// Drain makes all that waits at a destination due now, lifts its suspension,
// and returns how many messages were not due.
func (r *Relay) Drain(ctx context.Context, d queue.Destination) (int, error) {
	n, err := r.admin.RetryAt(ctx, d)
	if err != nil {
		return n, err
	}
	r.mu.Lock()
	if l := r.lanes[d]; l != nil {
		r.revive(l)
	}
	r.mu.Unlock()
	r.Kick()
	return n, nil
}

// tryPrimaries makes due what waits for primaries: one may have come back while nobody
// probed it. One that has not is probed from the first failure on.
func (r *Relay) tryPrimaries(ctx context.Context) {
	for d := range r.config.Load().Primaries {
		_, _ = r.Drain(ctx, d) // what is left deferred by a store that fails keeps its time; the store raises its own trouble
	}
}

// Unreachable tells whether deliveries to the destination are suspended.
func (r *Relay) Unreachable(d queue.Destination) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[d]
	return l != nil && l.suspended()
}

// revive ends a lane's suspension. r.mu is held.
func (r *Relay) revive(l *lane) {
	l.failures, l.until = 0, time.Time{}
	l.window, l.many = firstWindow, true
	if r.running != nil && !r.stopped {
		r.staff(l)
	}
}

// probe looks whether a suspended primary answers. One that does gets its mail;
// otherwise the next probe comes in a while, and what is too old by now is settled.
func (r *Relay) probe(ctx context.Context, l *lane) {
	answers := r.config.Load().Prober.Probe(ctx, l.destination)
	if answers {
		// An error leaves the deferred ones to their time; the store raises its own trouble.
		_, _ = r.admin.RetryAt(ctx, l.destination)
	} else {
		r.ageSuspended(ctx, l)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.probed = false
	switch {
	case r.stopped || r.lanes[l.destination] != l || !l.suspended():
	case answers:
		r.revive(l)
	default:
		r.probeIn(l, r.config.Load().ProbeEvery)
	}
}

// probeIn has a suspended lane looked at again after a while. r.mu is held.
func (r *Relay) probeIn(l *lane, wait time.Duration) {
	l.until = time.Now().Add(wait)
	time.AfterFunc(wait, func() { r.resume(l) })
}
