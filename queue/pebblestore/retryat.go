package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tacet/queue"
)

// RetryAt fills queue.Admin. What is due already is not touched, so that the
// backlog of a destination that was away costs nothing but for the messages
// by which it was tried.
func (s *Store) RetryAt(ctx context.Context, d queue.Destination) (int, error) {
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("retry a destination: %w", err)
	}
	destination := s.routing.Load().destination
	n := 0
	for _, id := range s.deferredAt(d) {
		if err := ctx.Err(); err != nil {
			return n, fmt.Errorf("retry a destination: %w", err)
		}
		err := s.amendNow(id, func(_ *message, rc *queue.Recipient) bool {
			if rc.State != queue.Waiting || destination(rc.Path) != d {
				return false
			}
			rc.Next = time.Time{} // due since its arrival: the oldest goes first
			return true
		}, nil)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrBusy):
			return n, fmt.Errorf("retry a destination: %w", err)
		}
	}
	if n == 0 {
		return 0, nil
	}
	if err := s.flush(); err != nil {
		return n, fmt.Errorf("retry a destination: %w", err)
	}
	s.opts.Wake()
	return n, nil
}

// deferredAt lists what waits at the destination and is not due.
func (s *Store) deferredAt(d queue.Destination) []queue.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	di, ok := x.byName[d]
	if !ok {
		return nil
	}
	var ids []queue.ID
	now := time.Now().UnixNano()
	for _, turn := range x.dests.at(di).turns {
		for _, gi := range turn.heap {
			if g := x.groups.at(gi); g.next > now {
				ids = append(ids, x.msgs.at(g.msg).id)
			}
		}
	}
	return ids
}
