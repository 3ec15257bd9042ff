package relay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"tacet/queue"
)

// memoryStore is a queue.Store that keeps everything in memory, for tests of
// the core alone: the engines have their own.
type memoryStore struct {
	mu       sync.Mutex
	messages map[queue.ID]*stored
	route    func(queue.ForwardPath) queue.Destination
	putErr   error
	setErr   error // of the next Settle
	settled  []queue.Settlement
}

type stored struct {
	e       *queue.Envelope
	content []byte
	claimed map[queue.Destination]bool
}

func (s *memoryStore) Ready() error { return nil }

func (s *memoryStore) Put(_ context.Context, e *queue.Envelope, head []byte, rest io.Reader) error {
	if s.putErr != nil {
		return s.putErr
	}
	content := slices.Clone(head)
	if rest != nil {
		more, err := io.ReadAll(rest)
		if err != nil {
			return fmt.Errorf("read the rest: %w", err)
		}
		content = append(content, more...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Size = int64(len(content))
	s.messages[e.ID] = &stored{e: e, content: content, claimed: map[queue.Destination]bool{}}
	return nil
}

// owed is like due for reports.
func (m *stored) owed(now time.Time) (out []int, next time.Time) {
	for i, r := range m.e.Recipients {
		if r.Owed != nil {
			out = append(out, i)
			if next.IsZero() || r.Owed.By.Before(next) {
				next = r.Owed.By
			}
		}
	}
	tried := func(r queue.Recipient) bool { return r.State == queue.Waiting && !r.Next.After(next) }
	if next.After(now) && slices.ContainsFunc(m.e.Recipients, tried) {
		return nil, next
	}
	return out, time.Time{}
}

func (s *memoryStore) due(m *stored, d queue.Destination, now time.Time) (out []int, next time.Time) {
	if d == queue.Reports {
		return m.owed(now)
	}
	for i, r := range m.e.Recipients {
		if r.State != queue.Waiting || s.route(r.Path) != d {
			continue
		}
		if !r.Next.After(now) {
			out = append(out, i)
		} else if next.IsZero() || r.Next.Before(next) {
			next = r.Next
		}
	}
	return out, next
}

func (s *memoryStore) Due(now time.Time) (ready []queue.Destination, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		all := []queue.Destination{queue.Reports}
		for _, r := range m.e.Recipients {
			all = append(all, s.route(r.Path))
		}
		for _, d := range all {
			if m.claimed[d] {
				continue
			}
			due, later := s.due(m, d, now)
			if len(due) > 0 && !slices.Contains(ready, d) {
				ready = append(ready, d)
			}
			if !later.IsZero() && (next.IsZero() || later.Before(next)) {
				next = later
			}
		}
	}
	return ready, next
}

func (s *memoryStore) Claim(_ context.Context, d queue.Destination, now time.Time) (*queue.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *stored
	var since time.Time // when it fell due
	for _, m := range s.messages {
		due, _ := s.due(m, d, now)
		if len(due) == 0 || m.claimed[d] {
			continue
		}
		next := m.e.Recipients[due[0]].Next
		if oldest == nil || cmp.Or(next.Compare(since), bytes.Compare(m.e.ID[:], oldest.e.ID[:])) < 0 {
			oldest, since = m, next
		}
	}
	if oldest == nil {
		return nil, nil
	}
	oldest.claimed[d] = true
	due, _ := s.due(oldest, d, now)
	return &queue.Claim{Envelope: oldest.e, Destination: d, Recipients: due,
		Content: queue.Content{Head: oldest.content, Size: oldest.e.Size}}, nil
}

func (s *memoryStore) Settle(ctx context.Context, c *queue.Claim, set queue.Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.setErr; err != nil {
		s.setErr = nil
		return err
	}
	m := s.messages[c.Envelope.ID]
	if m == nil {
		return queue.ErrNotFound
	}
	s.settled = append(s.settled, set)
	e := *m.e
	e.Recipients = slices.Clone(e.Recipients)
	left := 0
	for _, o := range set.Outcomes {
		r := &e.Recipients[o.Recipient]
		if c.Destination == queue.Reports {
			if was := c.Envelope.Recipients[o.Recipient].Owed; r.Owed != nil && r.Owed.Kind == was.Kind {
				r.Owed = nil
			}
			continue
		}
		if o.Owed != nil || o.State.Settled() {
			r.Owed = o.Owed
		}
		r.State, r.Next, r.Warned, r.Last = o.State, o.Next, o.Warned, o.Reply
		r.Attempts++
	}
	for _, r := range e.Recipients {
		if !r.Over() {
			left++
		}
	}
	m.e = &e
	delete(m.claimed, c.Destination)
	if left == 0 {
		delete(s.messages, e.ID)
	}
	if set.Report != nil {
		r := set.Report
		r.Envelope.Size = int64(len(r.Content))
		s.messages[r.Envelope.ID] = &stored{e: r.Envelope, content: r.Content, claimed: map[queue.Destination]bool{}}
	}
	return nil
}

func (s *memoryStore) Release(c *queue.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[c.Envelope.ID]
	if m == nil {
		return
	}
	delete(m.claimed, c.Destination)
	e := *m.e
	e.Recipients = slices.Clone(e.Recipients)
	for _, i := range c.Recipients {
		e.Recipients[i].Next = time.Now()
	}
	m.e = &e
}

func (s *memoryStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}
