package relay

import (
	"context"
	"math"
	"sync"
	"time"

	"tacet/queue"
)

// Run delivers what is due until ctx ends, then waits for the deliveries that
// are under way. The caller bounds that wait by closing the transport.
func (r *Relay) Run(ctx context.Context) {
	r.mu.Lock()
	r.running = ctx
	r.mu.Unlock()
	var returning sync.WaitGroup
	defer returning.Wait()
	returning.Go(func() { r.tryPrimaries(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now()
	for ctx.Err() == nil {
		if setBack(last, time.Now()) < -time.Hour {
			// What was deferred by a clock that ran ahead would wait for that time to come.
			_, _ = r.admin.RetryAll(ctx) // a store that fails raises its own trouble
		}
		last = time.Now()
		r.looks.Store(math.MaxInt64) // what is deferred from here on may be missed by this look
		ready, next := r.store.Due(time.Now())
		for _, d := range ready {
			r.wake(d, true)
		}
		wait := longestSleep
		if !next.IsZero() {
			wait = min(max(time.Until(next), 0), longestSleep)
		}
		r.looks.Store(time.Now().Add(wait).UnixNano())
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.kick:
		}
	}
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.workers.Wait()
}

// setBack is how far the wall clock was set between two readings of it: the
// difference to what the monotonic clock says. It is negative if it was set back.
func setBack(last, now time.Time) time.Duration {
	return now.Round(0).Sub(last.Round(0)) - now.Sub(last)
}

// longestSleep bounds how long a jump of the clock can go unnoticed.
const longestSleep = 30 * time.Second

// kickBy makes Run look again if it would else look later than at when.
func (r *Relay) kickBy(when time.Time) {
	if when.UnixNano() < r.looks.Load() {
		r.Kick()
	}
}

// Kick makes Run look again at what is due.
func (r *Relay) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// wakeAll wakes the lanes of all recipients of a message that was just queued.
// It returns how many messages such as this one are on their way in the
// fullest of them.
func (r *Relay) wakeAll(e *queue.Envelope) (fresh int) {
	var last queue.Destination
	for i := range e.Recipients {
		d := r.router.Destination(e.Recipients[i].Path)
		if i > 0 && d == last {
			continue
		}
		fresh = max(fresh, r.wake(d, false))
		last = d
	}
	return fresh
}

// wake makes sure that someone looks for work at the destination. many tells
// that there may be more than one message; otherwise it is a new one, and wake
// returns how many new ones wait there.
func (r *Relay) wake(d queue.Destination, many bool) (fresh int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil || r.stopped {
		return 0 // Run finds it by asking the store
	}
	l := r.lanes[d]
	if l == nil {
		l = &lane{destination: d, tokens: make(chan struct{}, maxTokens), window: firstWindow, primary: r.config.Load().primary(d)}
		r.hold(l)
		r.lanes[d] = l
	}
	l.many = l.many || many
	if !many && !l.suspended() && l.pacing.Load() == nil { // what is held back on purpose holds no client back
		l.fresh++
	}
	r.staff(l)
	return l.fresh
}

// staff sees to it that the lane has someone who looks for work: a parked
// worker, or a new one where there is none and the limit allows. r.mu is held.
func (r *Relay) staff(l *lane) {
	limit := min(l.window, r.most(l))
	if l.suspended() {
		limit = 1 // a probe
		if r.byConnection(l) {
			limit = 0
		}
	}
	switch {
	case len(l.tokens) < l.parked:
		l.tokens <- struct{}{}
	case l.workers < limit && !time.Now().Before(l.until):
		l.workers++
		r.workers.Go(func() { r.work(r.running, l) })
	default:
		l.dirty = true
	}
}
