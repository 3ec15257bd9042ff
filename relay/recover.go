package relay

import (
	"context"
	"errors"
	"fmt"

	"tacet/logging"
	"tacet/queue"
)

// Recover makes the log agree with the queue after a crash, before [Relay.Run].
// Mail may be taken in meanwhile. A message that was stored and not yet told of, because
// the crash came between the two and its client has read no 250, gets its record of acceptance. What the
// log tells of a message that is queued all the same will be told again, and
// that second record is marked.
func (r *Relay) Recover(ctx context.Context, past *logging.Recall) error {
	for e, err := range r.admin.List(ctx, queue.Filter{Since: past.Since}) {
		switch {
		case errors.Is(err, queue.ErrDamaged):
			continue // it is set aside, and told of elsewhere
		case err != nil:
			return fmt.Errorf("comparing the queue with the log: %w", err)
		}
		if e.Arrived.Before(r.began) {
			r.acceptLate(e, past)
		}
	}
	r.journal.Secure()
	past.Keep(func(id string) bool {
		queued, err := queue.ParseID(id)
		if err == nil {
			_, err = r.admin.Get(ctx, queued)
		}
		return err == nil
	})
	if !past.Empty() {
		r.past.Store(past)
	}
	return ctx.Err()
}

// acceptLate records the acceptance of those recipients that the log does not know.
func (r *Relay) acceptLate(e *queue.Envelope, past *logging.Recall) {
	rec := r.envelopeRecord(e)
	rec.Event, rec.Time, rec.RemoteID = logging.Accepted, e.Arrived, e.Origin.ID
	for i := range e.Recipients {
		rec.Recipient = string(e.Recipients[i].Path)
		if !past.Accepted(rec.ID, rec.Recipient) {
			r.write(&rec)
		}
	}
}
