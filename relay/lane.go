package relay

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"tacet/queue"
)

// lane is a destination that is being delivered to: how many workers it has,
// and whether it is suspended because its hosts cannot be reached. A lane
// exists while it has a worker or is suspended. Its fields are guarded by
// Relay.mu.
type lane struct {
	destination queue.Destination
	workers     int           // running, the parked ones included
	parked      int           // waiting for tokens
	tokens      chan struct{} // each wakes one parked worker: never more than are parked
	dirty       bool          // something may be due that no worker has looked for
	many        bool          // a backlog is due: each worker that finds work calls another

	most   int                    // deliveries at a time, where it has a limit of its own; 0: none
	pacing atomic.Pointer[pacing] // nil: what is due is sent at once

	fresh int // new messages that no worker has taken yet, about

	// window is how many deliveries run at a time. It starts low, grows with
	// each success while all of it is used, and shrinks with each failure to
	// reach a host, or when a host says that it takes no more connections.
	window   int
	failures int       // attempts in a row that reached no host
	primary  bool      // it is probed by connections alone: see primary.go
	probed   bool      // such a probe is under way
	until    time.Time // no attempt before; zero: not suspended
}

// A destination whose hosts could not be reached so many times in a row is
// suspended: it is probed by one attempt at a time, and its other messages
// wait undisturbed.
const (
	failuresToSuspend = 3
	firstSuspension   = 30 * time.Second
	longestSuspension = 10 * time.Minute
	parkTime          = 2 * time.Second

	firstWindow = 5

	longestLook = 2 * time.Second // at what waits at a suspended destination

	maxTokens = 1 << 20 // more than workers can be; a channel of nothing takes no room
)

// suspended tells whether no message is to be tried now. Of a primary one failure is enough: a probe
// costs nothing, and finds it back sooner than the next attempt of the one message that may wait.
func (l *lane) suspended() bool {
	return l.failures >= failuresToSuspend || l.primary && l.failures > 0
}

// work delivers at the lane until nothing is due there for a while. When ctx
// ends it finishes what it has begun: whoever stops the relay bounds that by
// closing the transport.
func (r *Relay) work(ctx context.Context, l *lane) {
	timer := time.NewTimer(parkTime)
	defer timer.Stop()
	for ctx.Err() == nil {
		c, err := r.claim(ctx, l)
		if err != nil {
			// Store and log raise their own trouble; what is due stays due, and is looked at again within longestSleep.
			break
		}
		if c == nil {
			if !r.park(ctx, l, timer) {
				return
			}
			continue
		}
		r.took(l)
		if !r.attended(l, r.attempt(ctx, c)) {
			r.ageSuspended(ctx, l)
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(l)
}

// park waits for new work. It returns false when the worker has left the lane.
func (r *Relay) park(ctx context.Context, l *lane, timer *time.Timer) bool {
	r.mu.Lock()
	l.many, l.fresh = false, 0
	if l.dirty {
		l.dirty = false
		r.mu.Unlock()
		return true
	}
	l.parked++
	r.mu.Unlock()
	timer.Reset(parkTime)
	woken := false
	select {
	case <-l.tokens:
		woken = true
	case <-timer.C:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.parked--
	if !woken {
		select {
		case <-l.tokens: // it came together with the time-out
			woken = true
		default:
		}
	}
	if woken || l.dirty {
		l.dirty = false
		return true
	}
	r.leave(l)
	return false
}

// leave takes a worker off the lane, and the lane away with its last one,
// unless it is suspended for a while yet. r.mu is held.
func (r *Relay) leave(l *lane) {
	l.workers--
	if l.workers > 0 || time.Now().Before(l.until) || r.byConnection(l) {
		return
	}
	delete(r.lanes, l.destination)
	if l.dirty {
		r.Kick() // the last two may have left at the same time, each for the other to go on
	}
}

// took notes that a worker has found work, and adds another to a lane with a backlog.
func (r *Relay) took(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.fresh = max(l.fresh-1, 0)
	if l.many && !l.suspended() && !r.stopped {
		r.staff(l)
	}
}

// attended notes how an attempt went. It returns false if the lane is
// suspended from now on, or has no place for this worker any more.
func (r *Relay) attended(l *lane, how contact) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch how {
	case contactMade:
		if l.suspended() {
			l.many = true // back: all that waits may come
			if l.primary {
				r.workers.Go(func() { _, _ = r.admin.RetryAt(r.running, l.destination) })
			}
		}
		l.failures, l.until = 0, time.Time{}
		if l.workers-l.parked >= l.window {
			l.window = min(l.window+1, r.most(l))
		}
		if (l.dirty || l.fresh > 0) && l.workers < l.window && !r.stopped {
			l.dirty = false
			r.staff(l)
		}
		return true
	case contactLimited:
		l.window = max(l.workers-l.parked-1, 1)
		l.dirty = true // whoever goes on looks for what this one leaves
		return l.workers <= l.window
	}
	if l.suspended() && time.Now().Before(l.until) {
		return false // it began before the suspension: what it shows is known
	}
	l.failures++
	l.window = max(l.window/2, 1)
	if !l.suspended() {
		return true
	}
	wait := r.config.Load().ProbeEvery
	if !l.primary {
		wait = min(firstSuspension<<min(l.failures-failuresToSuspend, 8), longestSuspension)
	}
	l.many, l.fresh = false, 0
	r.probeIn(l, wait)
	return false
}

// resume probes a suspended lane.
func (r *Relay) resume(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.lanes[l.destination] != l {
		return
	}
	if r.byConnection(l) {
		if !l.probed {
			l.probed = true
			r.workers.Go(func() { r.probe(r.running, l) })
		}
		return
	}
	if l.workers == 0 {
		r.staff(l)
	}
}

// ageSuspended settles, without an attempt, what at a destination that cannot
// be reached has outlived its time or waits so long that its sender is owed a
// warning. It looks at what was due when it began, each once, for the store
// puts what is released last; where that is more than it has time for, the next
// look goes on where this one ended.
func (r *Relay) ageSuspended(ctx context.Context, l *lane) {
	began := time.Now()
	due := began.Add(-1) // not what is released while it looks
	for ctx.Err() == nil && r.isSuspended(l) && time.Since(began) < longestLook && r.unrecorded() == nil {
		c, err := r.store.Claim(ctx, l.destination, due)
		if c == nil || err != nil {
			return
		}
		if now := time.Now().UTC(); r.aged(c, now) {
			r.settle(ctx, c, unreached(c, queue.CauseAllHostsFailed), now)
		} else {
			r.store.Release(c)
		}
	}
}

// aged tells whether the message's age alone calls for a settlement.
func (r *Relay) aged(c *queue.Claim, now time.Time) bool {
	schedule := r.config.Load().schedule(c.Destination)
	if schedule.Old(c.Envelope.Arrived, now) {
		return true // it counts as an attempt
	}
	return schedule.WarnDue(c.Envelope.Arrived, now) &&
		slices.ContainsFunc(c.Recipients, func(i int) bool { return !c.Envelope.Recipients[i].Warned })
}

func (r *Relay) isSuspended(l *lane) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.suspended()
}

func unreached(c *queue.Claim, cause queue.Cause) Result {
	res := Result{Replies: make([]queue.Reply, len(c.Recipients))}
	for i := range res.Replies {
		res.Replies[i] = queue.Reply{Cause: cause, Stage: queue.StageConnect}
	}
	return res
}
