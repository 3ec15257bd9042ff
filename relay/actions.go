package relay

import (
	"context"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Hold keeps a queued message from delivery.
func (r *Relay) Hold(ctx context.Context, id queue.ID) error {
	e, err := r.admin.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := r.admin.Hold(ctx, id); err != nil {
		return err
	}
	r.logAction(e, logging.Held)
	return nil
}

// Release lets a held message go on: it is due now.
func (r *Relay) Release(ctx context.Context, id queue.ID) error {
	e, err := r.admin.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := r.admin.Unhold(ctx, id); err != nil {
		return err
	}
	r.logAction(e, logging.Released)
	r.Kick()
	return nil
}

// Delete removes a queued message for good, without a report to its sender. As
// with a settlement, the log has the records first: a kill leaves no recipient without its terminal record.
func (r *Relay) Delete(ctx context.Context, id queue.ID) error {
	_, err := r.admin.Delete(ctx, id, func(e *queue.Envelope) {
		r.logAction(e, logging.Deleted)
		r.journal.Secure()
	})
	if err == nil {
		r.owing.Delete(id)
	}
	return err
}

// Retry makes the waiting recipients of a message due now.
func (r *Relay) Retry(ctx context.Context, id queue.ID) error {
	if err := r.admin.Retry(ctx, id); err != nil {
		return err
	}
	r.unsuspend()
	return nil
}

// RetryAll makes all that waits due now, and returns how many messages that are.
func (r *Relay) RetryAll(ctx context.Context) (int, error) {
	n, err := r.admin.RetryAll(ctx)
	if err != nil {
		return n, err
	}
	r.unsuspend()
	return n, nil
}

// unsuspend lets every lane try again: the operator's word outweighs what the
// last attempts found.
func (r *Relay) unsuspend() {
	r.mu.Lock()
	for d, l := range r.lanes {
		l.failures, l.until = 0, time.Time{}
		if l.workers == 0 {
			delete(r.lanes, d)
		}
	}
	r.mu.Unlock()
	r.Kick()
}
