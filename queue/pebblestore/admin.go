package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"tacet/queue"
)

// ready waits until everything queued is known.
func (s *Store) ready(ctx context.Context) error {
	select {
	case <-s.loaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.usable()
}

// ids lists what is queued, oldest first.
func (s *Store) ids() []queue.ID {
	s.mu.Lock()
	ids := s.index.ids()
	s.mu.Unlock()
	slices.SortFunc(ids, byAge)
	return ids
}

// idsOnDisk lists what is queued, and what stays until the report on it is
// durable, oldest first. Only the committer may ask.
func (s *Store) idsOnDisk() []queue.ID {
	s.mu.Lock()
	s.committer.mu.Lock()
	ids := append(s.index.ids(), s.committer.cur.reported...)
	s.committer.mu.Unlock()
	s.mu.Unlock()
	slices.SortFunc(ids, byAge)
	return ids
}

func byAge(a, b queue.ID) int { return bytes.Compare(a[:], b[:]) }

// each calls f for what is queued, oldest first.
func (s *Store) each(ctx context.Context, f func(queue.ID) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	for _, id := range s.ids() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(id); err != nil {
			return err
		}
	}
	return nil
}

// List fills queue.Admin. A message that cannot be read comes with what its
// ID tells, and with ErrDamaged.
func (s *Store) List(ctx context.Context, f queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		if err := s.ready(ctx); err != nil {
			yield(nil, fmt.Errorf("list: %w", err))
			return
		}
		now := time.Now()
		for _, id := range s.ids() {
			if err := ctx.Err(); err != nil {
				yield(nil, fmt.Errorf("list: %w", err))
				return
			}
			if f.Older > 0 && now.Sub(id.Time()) < f.Older || id.Time().Before(f.Since.Truncate(time.Millisecond)) {
				continue
			}
			e, err := s.Get(ctx, id)
			if errors.Is(err, queue.ErrNotFound) {
				continue
			}
			if err != nil {
				if !yield(&queue.Envelope{ID: id, Arrived: id.Time()}, err) {
					return
				}
				continue
			}
			if matches(f, e) && !yield(e, nil) {
				return
			}
		}
	}
}

// matches tells whether the filter selects the envelope; its age aside.
func matches(f queue.Filter, e *queue.Envelope) bool {
	if f.Sender != "" && !strings.EqualFold(f.Sender, string(e.Sender)) && !(f.Sender == "<>" && e.Sender.IsNull()) {
		return false
	}
	if f.Domain == "" && f.State == nil {
		return true
	}
	return slices.ContainsFunc(e.Recipients, func(rc queue.Recipient) bool {
		return (f.Domain == "" || strings.EqualFold(string(f.Domain), string(rc.Path.Domain()))) &&
			(f.State == nil || rc.State == *f.State)
	})
}

// Get fills queue.Admin.
func (s *Store) Get(ctx context.Context, id queue.ID) (*queue.Envelope, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	for {
		s.mu.Lock()
		mi, ok := s.index.byID[id]
		if !ok {
			s.mu.Unlock()
			return nil, fmt.Errorf("get: %w", queue.ErrNotFound)
		}
		before := *s.index.msgs.at(mi)
		if en := s.recent.byMsg[mi]; en != nil {
			env := en.env
			s.mu.Unlock()
			return env, nil
		}
		s.mu.Unlock()
		en, err := s.load(id, before.key, parts{states: before.flags&msgStates != 0})
		if err == nil {
			return en.env, nil
		}
		s.mu.Lock()
		mi, ok = s.index.byID[id]
		changed := !ok || s.index.msgs.at(mi).key != before.key || s.index.msgs.at(mi).rev != before.rev
		s.mu.Unlock()
		if !changed {
			return nil, fmt.Errorf("get: %w: %w", queue.ErrDamaged, err)
		}
	}
}

// Retry fills queue.Admin.
func (s *Store) Retry(ctx context.Context, id queue.ID) error {
	return s.amend(ctx, "retry", id, func(m *message, rc *queue.Recipient) bool {
		if rc.State != queue.Waiting {
			return false
		}
		rc.Next = time.Now()
		return true
	}, nil)
}

// Hold fills queue.Admin.
func (s *Store) Hold(ctx context.Context, id queue.ID) error {
	return s.amend(ctx, "hold", id, func(_ *message, rc *queue.Recipient) bool {
		if rc.State != queue.Waiting {
			return false
		}
		rc.State = queue.Held
		return true
	}, new(true))
}

// Unhold fills queue.Admin.
func (s *Store) Unhold(ctx context.Context, id queue.ID) error {
	return s.amend(ctx, "release", id, func(_ *message, rc *queue.Recipient) bool {
		if rc.State != queue.Held {
			return false
		}
		rc.State, rc.Next = queue.Waiting, time.Now()
		return true
	}, new(false))
}

// amend changes the recipients of a message for which f returns true, makes
// that durable, and finds the message its new place.
func (s *Store) amend(ctx context.Context, what string, id queue.ID, f func(*message, *queue.Recipient) bool, held *bool) error {
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := s.amendNow(id, f, held); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := s.flush(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.opts.Wake()
	return nil
}

func (s *Store) amendNow(id queue.ID, f func(*message, *queue.Recipient) bool, held *bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mi, ok := s.index.byID[id]
	if !ok {
		return queue.ErrNotFound
	}
	en, err := s.acquire(mi)
	if err != nil {
		if !errors.Is(err, queue.ErrNotFound) {
			err = fmt.Errorf("%w: %w", queue.ErrDamaged, err)
		}
		return err
	}
	defer s.recent.unpin(en)
	m := s.index.msgs.at(mi)
	if m.flags&msgLeaving != 0 {
		return queue.ErrBusy
	}
	env := *en.env
	env.Recipients = slices.Clone(env.Recipients)
	var changed []int
	for i := range env.Recipients {
		if f(m, &env.Recipients[i]) {
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if _, err := s.write(change{msg: mi, env: &env, recipients: changed, entry: en}); err != nil {
		return err
	}
	m.rev++
	en.env = &env
	if held != nil {
		s.index.setFlag(mi, msgHeld, *held)
	}
	s.regroup(mi, &env)
	return nil
}

// RetryAll fills queue.Admin. To write each message anew would take minutes
// for a large queue. Instead each record says in which retry generation it was
// written: what waits in an earlier one than the current is due.
func (s *Store) RetryAll(ctx context.Context) (int, error) {
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("retry all: %w", err)
	}
	s.mu.Lock()
	generation := s.retries.Add(1)
	now := time.Now()
	n := s.index.retryAll(now.UnixNano())
	for _, en := range s.recent.byMsg {
		en.env = retryNow(en.env, now)
		s.index.msgs.at(en.msg).rev++
	}
	c := &s.committer
	c.mu.Lock()
	if !c.refuse {
		_ = c.cur.batch.Set([]byte(keyRetries), binary.BigEndian.AppendUint64(nil, generation), nil)
		c.joined(false)
	}
	c.mu.Unlock()
	s.mu.Unlock()
	if err := s.flush(); err != nil {
		return 0, fmt.Errorf("retry all: %w", err)
	}
	s.opts.Wake()
	return n, nil
}

// retryNow is the envelope with everything that waits due at now.
func retryNow(env *queue.Envelope, now time.Time) *queue.Envelope {
	late := func(rc queue.Recipient) bool { return rc.State == queue.Waiting && rc.Next.After(now) }
	if !slices.ContainsFunc(env.Recipients, late) {
		return env
	}
	next := *env
	next.Recipients = slices.Clone(env.Recipients)
	for i := range next.Recipients {
		if late(next.Recipients[i]) {
			next.Recipients[i].Next = now
		}
	}
	return &next
}

// Delete fills queue.Admin. A message that cannot be read is deleted too, and
// then the envelope has no more than its ID.
func (s *Store) Delete(ctx context.Context, id queue.ID, told func(*queue.Envelope)) (*queue.Envelope, error) {
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	if err := s.setLeaving(id); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	env, err := s.Get(ctx, id)
	if err == nil && told != nil {
		told(env)
	}
	if err == nil || errors.Is(err, queue.ErrDamaged) {
		err = s.deleteNow(id, env)
	}
	if err != nil {
		s.stay(id, env)
		return nil, fmt.Errorf("delete: %w", err)
	}
	if err := s.flush(); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	if env == nil {
		env = &queue.Envelope{ID: id, Arrived: id.Time()}
	}
	return env, nil
}

// setLeaving keeps a message from delivery and from other operators while it is being deleted.
func (s *Store) setLeaving(id queue.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	mi, ok := x.byID[id]
	if !ok {
		return queue.ErrNotFound
	}
	m := x.msgs.at(mi)
	if m.active > 0 || m.flags&msgLeaving != 0 {
		return queue.ErrBusy
	}
	m.flags |= msgLeaving
	for gi := m.first; gi != 0; gi = x.groups.at(gi).sibling {
		if x.groups.at(gi).pos >= 0 {
			x.pull(gi, posParked)
		}
	}
	return nil
}

// stay gives a message that was not deleted in the end its place again. One that cannot be read has none.
func (s *Store) stay(id queue.ID, env *queue.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mi, ok := s.index.byID[id]
	if !ok {
		return
	}
	s.index.msgs.at(mi).flags &^= msgLeaving
	if env != nil {
		s.regroup(mi, env)
	}
}

func (s *Store) deleteNow(id queue.ID, env *queue.Envelope) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mi, ok := s.index.byID[id]
	if !ok {
		return queue.ErrNotFound
	}
	if _, err := s.write(change{msg: mi, env: env, settled: true}); err != nil {
		return err
	}
	s.forget(mi)
	return nil
}

// Stats fills queue.Admin.
func (s *Store) Stats() queue.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	return queue.Stats{
		Messages: len(x.byID), Waiting: x.waiting, Active: len(s.claims), Held: x.held,
		Damaged: x.damaged + s.unreadable, Destinations: len(x.order), Bytes: x.bytes,
	}
}
