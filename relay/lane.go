package relay

import (
	"context"
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

	failures int       // attempts in a row that reached no host
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

	maxTokens = 1 << 20 // more than workers can be; a channel of nothing takes no room
)

func (l *lane) suspended() bool { return l.failures >= failuresToSuspend }

// work delivers at the lane until nothing is due there for a while.
func (r *Relay) work(ctx context.Context, l *lane) {
	timer := time.NewTimer(parkTime)
	defer timer.Stop()
	for ctx.Err() == nil {
		c, err := r.store.Claim(ctx, l.destination, time.Now())
		if err != nil {
			// The store raises its own trouble; what is due stays due.
			break
		}
		if c == nil {
			if !r.park(ctx, l, timer) {
				return
			}
			continue
		}
		r.callAnother(l)
		reached := r.attempt(ctx, c)
		if !r.attended(l, reached) {
			r.expireSuspended(ctx, l)
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
	l.many = false
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

// leave takes a worker off the lane, and the lane away with its last one.
// r.mu is held.
func (r *Relay) leave(l *lane) {
	l.workers--
	if l.workers == 0 && !l.suspended() {
		delete(r.lanes, l.destination)
	}
}

// callAnother adds a worker to a lane with a backlog.
func (r *Relay) callAnother(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.many && !l.suspended() && !r.stopped {
		r.staff(l)
	}
}

// attended notes whether an attempt reached a host. It returns false if the
// lane is suspended from now on.
func (r *Relay) attended(l *lane, reached bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reached {
		if l.suspended() { // back: all that waits may come
			l.many = true
		}
		l.failures, l.until = 0, time.Time{}
		return true
	}
	l.failures++
	if !l.suspended() {
		return true
	}
	wait := min(firstSuspension<<min(l.failures-failuresToSuspend, 8), longestSuspension)
	l.until = time.Now().Add(wait)
	l.many = false
	time.AfterFunc(wait, func() { r.resume(l) })
	return false
}

// resume probes a suspended lane.
func (r *Relay) resume(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.lanes[l.destination] != l {
		return
	}
	if l.workers == 0 {
		r.staff(l)
	}
}

// expireSuspended ends what has outlived its time at a destination that
// cannot be reached, the oldest first; the rest stays due.
func (r *Relay) expireSuspended(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		c, err := r.store.Claim(ctx, l.destination, time.Now())
		if c == nil || err != nil {
			return
		}
		if !r.config.Load().Schedule.Expired(c.Envelope.Arrived, time.Now()) {
			r.store.Release(c)
			return
		}
		r.settle(ctx, c, unreached(c, queue.CauseAllHostsFailed), time.Now())
	}
}

func unreached(c *queue.Claim, cause queue.Cause) Result {
	res := Result{Replies: make([]queue.Reply, len(c.Recipients))}
	for i := range res.Replies {
		res.Replies[i] = queue.Reply{Cause: cause, Stage: queue.StageConnect}
	}
	return res
}
