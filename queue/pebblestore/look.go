package pebblestore

import (
	"context"
	"fmt"

	"tacet/queue"
)

// Content gives the content of a queued message to an operator who may see
// it: queue.ErrNotFound if there is no such message.
func (s *Store) Content(ctx context.Context, id queue.ID) (queue.Content, error) {
	if err := s.ready(ctx); err != nil {
		return queue.Content{}, fmt.Errorf("content: %w", err)
	}
	for {
		ref, found := s.keyOf(id)
		if !found {
			return queue.Content{}, fmt.Errorf("content: %w", queue.ErrNotFound)
		}
		en, err := s.load(id, ref, parts{states: true, content: true})
		if err == nil {
			return s.content(en), nil
		}
		if now, found := s.keyOf(id); found && now == ref { // else it was moved while it was read
			return queue.Content{}, fmt.Errorf("content: %w: %w", queue.ErrDamaged, err)
		}
	}
}

func (s *Store) keyOf(id queue.ID) (ref keyRef, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mi, found := s.index.byID[id]
	if found {
		ref = s.index.msgs.at(mi).key
	}
	return ref, found
}
