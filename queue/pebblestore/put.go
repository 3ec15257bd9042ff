package pebblestore

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"tacet/queue"
)

// incoming is a message on its way into the store.
type incoming struct {
	env     *queue.Envelope
	head    []byte // content to be sealed beside the envelope; nil if it is in a file
	fileKey []byte
	plain   []byte // the envelope record
	epoch   *epoch
	aead    cipher.AEAD
	routes  uint8 // the routing by which targets were made
	targets []target
	first   [1]target
}

// target is one destination of a message.
type target struct {
	dest   queue.Destination
	next   int64
	parked bool // nothing waits: held
}

var errNoRecipient = errors.New("the envelope has no recipient that waits")

// bufferPool holds buffers for envelope records.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	return new(make([]byte, 0, 1024))
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= 64<<10 {
		clear((*b)[:cap(*b)])
		p.pool.Put(b)
	}
}

// Put fills queue.Store.
func (s *Store) Put(ctx context.Context, e *queue.Envelope, head []byte, rest io.Reader) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := s.admissible(e, head); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := s.space.take(int64(len(head))); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	p := &incoming{env: e, head: head}
	if rest != nil {
		done := s.streams.begin(e.ID)
		defer done()
		if err := s.putContent(ctx, p, head, rest); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	} else {
		e.Size = int64(len(head))
		if head == nil {
			p.head = []byte{}
		}
	}
	if err := s.putEnvelope(p); err != nil {
		// After a failed commit no one knows whether the envelope is on the
		// disk: the next open removes the content if it is not.
		if rest != nil && s.failedError() == nil {
			s.removeContent(e.ID)
		}
		return fmt.Errorf("put: %w", err)
	}
	return nil
}

func (s *Store) admissible(e *queue.Envelope, head []byte) error {
	if err := s.usable(); err != nil {
		return err
	}
	if len(head) > queue.InMemory {
		return fmt.Errorf("a head of %d octets is more than may stand in memory", len(head))
	}
	if len(e.Recipients) > maxRecipients {
		return fmt.Errorf("%d recipients are more than one message may have", len(e.Recipients))
	}
	if e.ID.IsZero() {
		return errors.New("the envelope has no queue ID")
	}
	s.mu.Lock()
	_, known := s.index.byID[e.ID]
	s.mu.Unlock()
	if known {
		return errors.New("the queue ID is in use")
	}
	return nil
}

// putContent streams a large message's content to its file.
func (s *Store) putContent(ctx context.Context, p *incoming, head []byte, rest io.Reader) error {
	p.head = nil
	p.fileKey = make([]byte, keySize)
	rand.Read(p.fileKey)
	size, err := s.writeContent(ctx, p.env.ID, p.fileKey, io.MultiReader(bytes.NewReader(head), rest))
	if err != nil {
		s.removeContent(p.env.ID)
		return err
	}
	p.env.Size = size
	return nil
}

// putEnvelope commits the message's records and waits until they are durable.
func (s *Store) putEnvelope(p *incoming) error {
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	if err := s.prepare(p, buf); err != nil {
		return err
	}
	c := &s.committer
	c.mu.Lock()
	c.waitRoom()
	// Keys of an epoch that has ended meanwhile may not be used any more.
	for p.epoch != s.keys.current.Load() {
		if err := s.cipher(p); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	if c.refuse {
		c.mu.Unlock()
		return queue.ErrUnavailable
	}
	g := c.cur
	c.addPut(p)
	c.mu.Unlock()
	return s.await(g)
}

// prepare does what can be done before the message joins a group.
func (s *Store) prepare(p *incoming, buf *[]byte) error {
	s.route(p)
	if len(p.targets) == 0 {
		return errNoRecipient
	}
	*buf = appendEnvelope((*buf)[:0], record{retries: s.retries.Load(), fileKey: p.fileKey, env: p.env})
	p.plain = *buf
	return s.cipher(p)
}

func (s *Store) cipher(p *incoming) (err error) {
	p.epoch = s.keys.current.Load()
	p.aead, err = p.epoch.aead(p.env.ID)
	return err
}

// route finds the message's destinations.
func (s *Store) route(p *incoming) {
	r := s.routing.Load()
	p.routes = r.number
	p.targets = appendTargets(p.first[:0], r, p.env, nil)
}

// appendTargets groups the recipients that are not settled by destination,
// leaving out those that skip names, and adds the reports that are owed.
func appendTargets(ts []target, r *routing, e *queue.Envelope, skip func(recipient int) bool) []target {
	var at map[queue.Destination]int
	owed := false
	for i := range e.Recipients {
		rc := &e.Recipients[i]
		owed = owed || rc.Owed != nil
		if rc.State.Settled() || skip != nil && skip(i) {
			continue
		}
		d := r.destination(rc.Path)
		t := -1
		if at == nil {
			for j := range ts {
				if ts[j].dest == d {
					t = j
					break
				}
			}
		} else if j, ok := at[d]; ok {
			t = j
		}
		if t < 0 {
			t = len(ts)
			ts = append(ts, target{dest: d, parked: true})
			if len(ts) == 16 {
				at = make(map[queue.Destination]int)
				for j := range ts {
					at[ts[j].dest] = j
				}
			} else if at != nil {
				at[d] = t
			}
		}
		if rc.State == queue.Waiting {
			next := r.dueAt(e, rc)
			if ts[t].parked {
				ts[t].parked, ts[t].next = false, next
			}
			ts[t].next = min(ts[t].next, next)
		}
	}
	if owed {
		next, _ := r.reportsDue(e)
		ts = append(ts, target{dest: queue.Reports, next: next})
	}
	return ts
}

// dueAt is when a waiting recipient falls due. What is due at once is so
// since its arrival, so that older messages go first. A time that no schedule
// gives was made by a clock that was wrong then or is wrong now; waiting for
// it could take years.
func (r *routing) dueAt(e *queue.Envelope, rc *queue.Recipient) int64 {
	now := time.Now()
	if rc.Next.IsZero() || rc.Next.Sub(now) > r.longest {
		return min(nanos(e.Arrived), nanos(now))
	}
	return nanos(rc.Next)
}

// insert enters a message that has become durable into the index. s.mu is held.
func (s *Store) insert(p *incoming) {
	if r := s.routing.Load(); r.number != p.routes {
		s.route(p)
	}
	var flags uint8
	if p.fileKey != nil {
		flags |= msgStreamed
	}
	for i := range p.env.Recipients {
		if p.env.Recipients[i].State == queue.Held {
			flags |= msgHeld
		}
	}
	mi := s.index.add(message{id: p.env.ID, key: p.epoch.ref, flags: flags, routes: p.routes, sender: s.senders.ofEnvelope(p.env)}, p.env.Size)
	for _, t := range p.targets {
		s.index.addGroup(mi, t.dest, t.next, t.parked)
	}
	s.recent.keep(&entry{msg: mi, env: p.env, head: p.head, fileKey: p.fileKey})
	if !p.epoch.used.Swap(true) {
		s.keep.poke()
	}
}

// Ready fills queue.Store.
func (s *Store) Ready() error {
	if err := s.usable(); err != nil {
		return err
	}
	return s.space.take(0)
}
