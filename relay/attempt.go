package relay

import (
	"context"
	"errors"
	"time"

	"tacet/queue"
)

// contact tells what an attempt showed of the destination's hosts.
type contact uint8

const (
	contactMade    contact = iota // a host spoke SMTP with us
	contactLimited                // a host takes no more connections for now
	contactFailed                 // no host could be reached
)

// attempt tries to hand on what was claimed and settles it.
func (r *Relay) attempt(ctx context.Context, c *queue.Claim) contact {
	if c.Destination == queue.Reports {
		r.settleReports(ctx, c, time.Now().UTC())
		return contactMade
	}
	res := r.deliver(context.WithoutCancel(ctx), c)
	if interrupted(res) {
		r.store.Release(c)
		return contactMade
	}
	r.settle(ctx, c, res, time.Now().UTC())
	return contacted(res)
}

// deliver contains a panic of the transport: what caused it is deferred like
// any other failure, and takes nothing else with it.
func (r *Relay) deliver(ctx context.Context, c *queue.Claim) (res Result) {
	defer func() {
		if recover() != nil {
			r.Stats.Panics.Add(1)
			res = Result{Replies: make([]queue.Reply, len(c.Recipients))}
			for i := range res.Replies {
				res.Replies[i] = queue.Reply{Cause: queue.CauseLocal, Stage: queue.StageQueue}
			}
		}
	}()
	return r.transport.Deliver(ctx, c)
}

// interrupted tells whether the relay's own stop ended the attempt, before
// anything was decided. It counts as none then.
func interrupted(res Result) bool {
	for i := range res.Replies {
		if res.Replies[i].Cause != queue.CauseShutdown {
			return false
		}
	}
	return true
}

func contacted(res Result) contact {
	how := contactFailed
	for i := range res.Replies {
		r := &res.Replies[i]
		if r.Cause == queue.CauseConcurrencyLimit {
			return contactLimited
		}
		if r.Code != 0 || r.Permanent() || r.Stage > queue.StageGreeting {
			how = contactMade
		}
	}
	return how
}

// settle writes the relay log and records what became of a claim's recipients,
// with the reports owed for them. In this order: an outcome is given to the
// store only when the log's line of it is in its file, so that a kill leaves no
// recipient without its terminal record. A kill between the two has the delivery made
// again, which the log then shows as what it is: a second record of the same attempt.
func (r *Relay) settle(ctx context.Context, c *queue.Claim, res Result, now time.Time) {
	s := queue.Settlement{Outcomes: make([]queue.Outcome, len(c.Recipients))}
	for i, recipient := range c.Recipients {
		s.Outcomes[i] = r.judge(c, recipient, res.Replies[i], now)
	}
	s.Report = r.reports(ctx, c, s.Outcomes, res, now)
	for i := range s.Outcomes {
		r.logAttempt(c.Envelope, &s.Outcomes[i], &res, now)
	}
	r.journal.Secure()
	if !r.record(ctx, c, s) {
		return
	}
	if s.Report != nil {
		r.reported(s.Report.Envelope)
	}
	for i := range s.Outcomes {
		r.count(&s.Outcomes[i])
		if s.Outcomes[i].State == queue.Waiting {
			r.kickBy(s.Outcomes[i].Next)
		}
	}
	if r.gathers(c) {
		r.Kick() // with this outcome reports may be due
		r.gathered(c, s.Outcomes)
	}
}

// judge turns a reply into what becomes of the recipient.
func (r *Relay) judge(c *queue.Claim, recipient int, reply queue.Reply, now time.Time) queue.Outcome {
	schedule, e := r.config.Load().schedule(c.Destination), c.Envelope
	rcpt := &e.Recipients[recipient]
	o := queue.Outcome{Recipient: recipient, Reply: reply, Warned: rcpt.Warned}
	switch {
	case reply.Delivered():
		o.State = queue.Delivered
	case reply.Permanent():
		o.State = queue.Failed
	case schedule.Expired(e.Arrived, rcpt.Attempts+1, now):
		o.State = queue.Failed
		o.Reply.Cause = queue.CauseExpired // the code and text of the last answer stay for the report
	default:
		o.State = queue.Waiting
		o.Next = schedule.Next(e.ID, rcpt.Attempts+1, now)
		if reply.Cause == queue.CauseAmbiguous {
			o.Next = schedule.NextInDoubt(e.ID, rcpt.Attempts+1, now)
		}
	}
	return o
}

// record makes the settlement durable. While the store cannot take it, the
// worker waits: delivering more would only make more duplicates. It returns
// false if the relay stopped before, or the message is gone.
func (r *Relay) record(ctx context.Context, c *queue.Claim, s queue.Settlement) bool {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := r.store.Settle(context.WithoutCancel(ctx), c, s)
		if err == nil {
			return true
		}
		if errors.Is(err, queue.ErrNotFound) {
			return false
		}
		r.Stats.Unsettled.Add(1)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// count keeps the statistics of one recipient's outcome.
func (r *Relay) count(o *queue.Outcome) {
	switch {
	case o.State == queue.Delivered:
		r.Stats.Delivered.Add(1)
	case o.State == queue.Waiting:
		r.Stats.Deferred.Add(1)
	case o.Reply.Cause == queue.CauseExpired:
		r.Stats.Expired.Add(1)
	default:
		r.Stats.Failed.Add(1)
	}
}
