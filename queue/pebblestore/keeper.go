package pebblestore

import (
	"context"
	"fmt"
	"time"

	"tacet/queue"
)

// Times of the keeper.
const (
	scrubDelay = 20 * time.Second       // from a settlement to the overwriting of its slot
	trimDelay  = 250 * time.Millisecond // from a drained queue to giving its space back, and to the next step of that
	keyRetry   = 30 * time.Second       // after keys could not be written
)

// When space is given back.
const (
	trimMessages = 256     // at most so many are queued
	trimTables   = 4 << 20 // and the tables take so many octets, and twice what is queued
)

// keeper ends epochs, overwrites the slots of settled messages, and gives
// disk space back once the queue is empty. An idle store wakes it never.
type keeper struct {
	kick chan struct{}
	stop chan struct{}
	done chan struct{}

	rotateAt, scrubAt, trimAt time.Time // zero: nothing to do
	trimmed                   bool      // ranges were deleted and the tables not yet looked at again
}

func (k *keeper) init() {
	k.kick, k.stop, k.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// poke makes the keeper look what there is to do.
func (k *keeper) poke() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// keepLoop is the keeper's goroutine. It begins once the queue is read: only
// then is it known which messages need their keys.
func (s *Store) keepLoop(ctx context.Context) {
	k := &s.keep
	defer close(k.done)
	select {
	case <-s.loaded:
	case <-k.stop:
		return
	}
	if !s.readWhole(ctx) {
		return
	}
	if len(s.keys.ended()) > 0 {
		k.rotateAt = time.Now()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-k.kick:
		case <-timer.C:
		}
		s.keepOnce()
		if next := k.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// readWhole waits until the queue has been read whole: the key of a message
// that is not known would be destroyed. It returns false where the store ends before.
func (s *Store) readWhole(ctx context.Context) bool {
	err := s.loadError()
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		s.opts.Events(Event{Kind: EventKeys, Err: fmt.Errorf("no key is destroyed, for the queue was not read whole: %w", err)})
	}
	tick := time.NewTicker(keyRetry)
	defer tick.Stop()
	for {
		select {
		case <-s.keep.stop:
			return false
		case <-s.failed:
			return false
		case <-tick.C:
		}
		if s.readAgain(ctx) == nil {
			return true
		}
	}
}

// next is the earliest of the times, zero if there is none.
func (k *keeper) next() (next time.Time) {
	for _, t := range []time.Time{k.rotateAt, k.scrubAt, k.trimAt} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// keepOnce does what is due and plans what has come up.
func (s *Store) keepOnce() {
	k := &s.keep
	now := time.Now()
	due := func(t *time.Time, needed bool, after time.Duration) bool {
		switch {
		case !needed:
			*t = time.Time{}
		case t.IsZero():
			*t = now.Add(after)
		case !now.Before(*t):
			*t = time.Time{}
			return true
		}
		return false
	}
	if due(&k.rotateAt, s.keys.current.Load().used.Load() || len(s.keys.ended()) > 0, s.opts.Epoch) {
		if err := s.rotate(); err != nil {
			s.opts.Events(Event{Kind: EventKeys, Err: err})
			k.rotateAt = now.Add(keyRetry)
		}
	}
	if due(&k.scrubAt, s.keys.slots.dirty(), scrubDelay) {
		if err := s.keys.slots.scrub(); err != nil {
			s.opts.Events(Event{Kind: EventKeys, Err: err})
			k.scrubAt = now.Add(keyRetry)
		}
	}
	if due(&k.trimAt, s.tables.Load() && s.drained(), trimDelay) {
		if k.trimmed = s.trimStep(k.trimmed); k.trimmed {
			k.trimAt = now.Add(trimDelay)
		}
	}
}

// drained tells whether little is queued.
func (s *Store) drained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.index.byID) <= trimMessages
}

// wasteful tells whether the tables are much larger than what is queued.
func (s *Store) wasteful() bool {
	total := s.db.Metrics().Total()
	s.mu.Lock()
	defer s.mu.Unlock()
	return total.TablesSize > 2*s.index.bytes+trimTables
}

// rotate begins a new epoch and ends the others: the keys of what is still
// queued move to slots, and the epochs' keys are destroyed. A crash at any
// step leaves a message's key in its epoch, in a slot or in both.
func (s *Store) rotate() error {
	next, err := s.keys.newEpoch()
	if err != nil {
		return err
	}
	s.committer.mu.Lock()
	s.keys.current.Store(next)
	s.committer.mu.Unlock()
	return s.endEpochs(s.keys.ended())
}

func (s *Store) endEpochs(ended []*epoch) error {
	for _, e := range ended {
		if e.earlier && s.hasGaps() {
			continue // the next open needs it for what it finds there
		}
		// What was sealed under the epoch is in the index after this.
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.moveKeys(e); err != nil {
			return err
		}
		// What was settled meanwhile is deleted for good after this; without
		// its key it would come back from a crash as damaged.
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.keys.destroy(e); err != nil {
			return err
		}
	}
	return nil
}

// hasGaps tells whether there are messages on the disk that are not in the
// index, beside damage. Their records and keys stay until the next open has read around it.
func (s *Store) hasGaps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gapped
}

// moveChunk bounds how many keys are moved at once.
const moveChunk = 1 << 15

// moveKeys puts the keys of an epoch's survivors into slots.
func (s *Store) moveKeys(e *epoch) error {
	for from := uint32(1); ; {
		var ids []queue.ID
		var at []uint32
		ids, at, from = s.survivors(e.ref, from)
		slots, err := s.keys.slots.put(ids, e.messageKey)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		s.mu.Lock()
		for i, mi := range at {
			if now, ok := s.index.byID[ids[i]]; ok && now == mi {
				s.index.msgs.at(mi).key = keyRef(slots[i])
			} else {
				s.keys.slots.release(slots[i]) // settled meanwhile
			}
		}
		s.mu.Unlock()
	}
}

// survivors lists messages whose key is in the epoch, about in the order in
// which they came, up to moveChunk of them, and where to go on. None of those
// that come meanwhile is in an epoch that has ended.
func (s *Store) survivors(ref keyRef, from uint32) (ids []queue.ID, at []uint32, next uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for next = from; next < s.index.msgs.next && len(ids) < moveChunk; next++ {
		if m := s.index.msgs.at(next); !m.id.IsZero() && m.key == ref {
			ids, at = append(ids, m.id), append(at, next)
		}
	}
	return ids, at, next
}

// giveBack makes the engine give up the space of what was deleted, without
// reading it all again, once little is queued. The deletion itself is the committer's: only there is it
// certain that no message is between the index and the disk.
func (s *Store) giveBack() {
	done := make(chan struct{})
	select {
	case s.trim <- done:
		select {
		case <-done:
		case <-s.failed:
			return
		}
	case <-s.keep.stop:
		return
	}
	if err := s.flushTables(); err != nil {
		s.opts.Events(Event{Kind: EventBackground, Err: fmt.Errorf("flush: %w", err)})
	}
}

// trimStep gives space back in two steps: tables that hold nothing which is
// queued go without being read; if that does not suffice, the others are
// rewritten. It returns whether the second step is to follow.
func (s *Store) trimStep(trimmed bool) bool {
	switch {
	case !s.wasteful():
		s.tables.Store(false)
		return false
	case !trimmed:
		s.giveBack()
		s.tables.Store(true)
		return true
	}
	if err := s.compactTables(); err != nil {
		s.opts.Events(Event{Kind: EventBackground, Err: fmt.Errorf("compact: %w", err)})
	}
	s.tables.Store(false)
	return false
}

// trimRecords deletes the ranges of records between those of queued messages.
// The messages that are gathered at the moment are written after it, and so is
// the end of those that a report is gathered for.
func (s *Store) trimRecords(done chan struct{}) {
	defer close(done)
	ids := s.idsOnDisk()
	if s.failedError() != nil || len(ids) > trimMessages || s.loadError() != nil || s.hasGaps() {
		return
	}
	b := s.db.NewBatch()
	for _, prefix := range []byte{prefixContent, prefixEnvelope, prefixState} {
		from := []byte{prefix}
		for _, id := range ids {
			key := recordKey(nil, prefix, id)
			_ = b.DeleteRange(from, key, nil)
			from = append(key, 0xff, 0xff, 0xff) // beyond the last recipient's state
		}
		_ = b.DeleteRange(from, []byte{prefix + 1}, nil)
	}
	_ = s.apply(b)
	_ = b.Close()
}
