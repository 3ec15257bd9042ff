package relay

import (
	"context"
	"errors"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Limits is what a destination is held to, by configuration. The zero value
// holds it to nothing of its own.
type Limits struct {
	Concurrency int           // deliveries at a time; 0: as many as Config says
	Every       time.Duration // from one delivery to the next at least; 0: at once
}

// pace lets one delivery begin after the other, with a pause between them.
type pace struct {
	turn chan struct{} // holds one token: whoever has it may claim
	next time.Time     // nothing begins before; guarded by turn
}

// pacing is a pace and the pause that it keeps now.
type pacing struct {
	*pace
	every time.Duration
}

// idlePaces is how many destinations' paces are kept before those are dropped
// that hold nothing back.
const idlePaces = 1000

// paceOf is the pace of a destination. It outlives the lane: one that comes
// and goes must not be faster than one that stays. r.mu is held.
func (r *Relay) paceOf(d queue.Destination) *pace {
	p := r.paces[d]
	if p == nil {
		if len(r.paces) >= idlePaces {
			r.dropPaces(time.Now())
		}
		p = &pace{turn: make(chan struct{}, 1)}
		p.turn <- struct{}{}
		r.paces[d] = p
	}
	return p
}

func (r *Relay) dropPaces(now time.Time) {
	for d, p := range r.paces {
		select {
		case <-p.turn:
			if p.next.Before(now) && r.lanes[d] == nil {
				delete(r.paces, d)
			}
			p.turn <- struct{}{}
		default: // in use
		}
	}
}

// hold puts the lane under the limits of its destination as they are now. r.mu is held.
func (r *Relay) hold(l *lane) {
	var limits Limits
	if l.destination != queue.Reports {
		limits = r.router.Limits(l.destination)
	}
	l.most = limits.Concurrency
	if limits.Every <= 0 {
		l.pacing.Store(nil)
		return
	}
	l.pacing.Store(&pacing{r.paceOf(l.destination), limits.Every})
}

// most is how many deliveries may run at a time at the lane. r.mu is held.
func (r *Relay) most(l *lane) int {
	if l.most > 0 {
		return l.most
	}
	return r.config.Load().Concurrency
}

// unrecorded says why what is delivered now could not be put on record, nil if it can: then it waits, or
// a kill would leave recipients without their terminal record. A log that is only slow holds nothing up.
func (r *Relay) unrecorded() error {
	err := r.journal.Err()
	if errors.Is(err, logging.ErrBacklog) || errors.Is(err, logging.ErrClosed) {
		return nil
	}
	return err
}

// claim claims what is due at the lane, at the lane's pace: nothing is claimed
// before it may be sent, and a look that finds nothing costs no turn.
func (r *Relay) claim(ctx context.Context, l *lane) (*queue.Claim, error) {
	if err := r.unrecorded(); err != nil {
		return nil, err
	}
	p := l.pacing.Load()
	if p == nil {
		return r.store.Claim(ctx, l.destination, time.Now())
	}
	select {
	case <-p.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	if left := min(time.Until(p.next), p.every); left > 0 {
		wait(ctx, left)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c, err := r.store.Claim(ctx, l.destination, time.Now())
	if c != nil {
		p.next = time.Now().Add(p.every)
	}
	return c, err
}
