package pebblestore

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"tacet/queue"
)

// Times of the committer.
const (
	settleDelay = 4 * time.Millisecond // how long an outcome waits for a message to ride with
	gatherMax   = 5 * time.Millisecond // how long messages wait for each other, at most
	paceMax     = time.Millisecond     // where they come less often than that, they do not wait
	paceLimit   = 10 * paceMax         // one long pause is soon forgotten
)

// bundle is what is committed with one sync: messages and outcomes of many sessions.
type bundle struct {
	batch  *pebble.Batch
	puts   []*incoming
	urgent bool      // someone waits for it, or a report is in it
	since  time.Time // when its first message came; without one, its first operation
	ops    int
	done   chan struct{} // closed when it is durable, or err says why not
	err    error
	// Messages that go in the step that puts a report on them.
	reported []queue.ID

	// What may happen only once it is durable:
	entries []*entry   // whose newest state it holds
	slots   []uint32   // whose message it deletes
	files   []queue.ID // contents of messages it deletes
}

// committer gathers groups and commits them, one after the other.
type committer struct {
	mu      sync.Mutex
	cur     *bundle
	spare   *pebble.Batch
	plain   []byte        // scratch for a state record
	room    sync.Cond     // the current group has room again
	kick    chan struct{} // something has joined the current group
	timer   *time.Timer   // the current group's time
	refuse  bool          // nothing more may join but a flush
	closing bool          // the committer ends once all is committed

	// target is how many messages a group waits for. It follows how many
	// sessions really come at the same time: a single one never waits.
	target int
	pace   time.Duration // mean time from one message to the next
	last   time.Time     // when the newest message came
}

func (c *committer) init(db *pebble.DB) {
	c.room.L = &c.mu
	c.kick = make(chan struct{}, 1)
	c.timer = time.NewTimer(time.Hour)
	c.target = 1
	c.pace = paceLimit
	c.cur = &bundle{batch: db.NewBatch(), done: make(chan struct{})}
}

// joined is called with c.mu held after something was added to the current
// group. It wakes the committer where that changes how long it waits.
func (c *committer) joined(put bool) {
	g := c.cur
	if now := time.Now(); put {
		c.pace = (15*c.pace + min(now.Sub(c.last), paceLimit)) / 16
		c.last = now
		if len(g.puts) == 1 {
			g.since = now
		}
	} else if g.ops == 0 {
		g.since = now
	}
	g.ops++
	if g.ops == 1 && !put && !g.urgent {
		c.timer.Reset(settleDelay) // nobody need wake before
		return
	}
	if g.urgent || put && (len(g.puts) == 1 || len(g.puts) >= c.target) {
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
}

// waitRoom is called with c.mu held before a message joins.
func (c *committer) waitRoom() {
	for c.cur.batch.Len() >= maxGroupBytes && !c.refuse {
		c.room.Wait()
	}
}

// flush waits until everything that has joined is durable.
func (s *Store) flush() error {
	c := &s.committer
	c.mu.Lock()
	g := c.cur
	g.urgent = true
	c.joined(false)
	c.mu.Unlock()
	return s.await(g)
}

// await waits for a group, or for the end of the store.
func (s *Store) await(g *bundle) error {
	select {
	case <-g.done:
		return g.err
	case <-s.failed:
		// The engine may hang, and with it the committer.
		return s.failedError()
	}
}

// commitLoop is the committer's goroutine. It ends when the store closes,
// after the last group.
func (s *Store) commitLoop() {
	c := &s.committer
	defer c.timer.Stop()
	for {
		select {
		case <-c.kick:
		case <-c.timer.C:
		case done := <-s.trim:
			s.trimRecords(done)
		}
		for {
			g, last := c.take(s.db)
			if g != nil {
				s.commit(g)
				continue
			}
			if last {
				return
			}
			break
		}
	}
}

// take closes the current group and hands it out if its time has come, and
// sets the timer to its time else. last tells that there will be no more.
func (c *committer) take(db *pebble.DB) (g *bundle, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g = c.cur
	if g.ops == 0 {
		return nil, c.closing
	}
	n := len(g.puts)
	limit := settleDelay
	if n > 0 {
		limit = min(2*time.Duration(c.target)*c.pace, gatherMax)
		if c.pace > paceMax {
			limit = 0
		}
	}
	waited := time.Since(g.since)
	if !g.urgent && !c.closing && n < c.target && waited < limit && g.batch.Len() < maxGroupBytes {
		c.timer.Reset(limit - waited)
		return nil, false
	}
	if n > 0 {
		if n < c.target {
			// Those that were waited for did not come.
			c.target = max(n, c.target*3/4)
		}
	}
	next := c.spare
	c.spare = nil
	if next == nil {
		next = db.NewBatch()
	}
	c.cur = &bundle{batch: next, done: make(chan struct{})}
	c.room.Broadcast()
	return g, false
}

// commit makes the group durable and lets everyone know who waits for it.
func (s *Store) commit(g *bundle) {
	if err := s.failedError(); err != nil {
		g.err = err
	} else if !g.batch.Empty() {
		g.err = s.apply(g.batch)
	}
	if g.err == nil {
		s.committed(g)
	}
	close(g.done)

	c := &s.committer
	c.mu.Lock()
	defer c.mu.Unlock()
	// Whoever came meanwhile comes at the same time as those of the group.
	if n := len(g.puts) + len(c.cur.puts); len(g.puts) > 0 && len(c.cur.puts) > 0 {
		c.target = min(max(c.target, n), 64)
	}
	if g.err == nil && c.spare == nil {
		g.batch.Reset()
		c.spare = g.batch
	}
}

// apply commits a batch with a sync. The engine panics where it cannot go on.
func (s *Store) apply(b *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.fail(fmt.Errorf("the engine failed: %v", r))
			err = s.failedError()
		}
	}()
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		s.fail(fmt.Errorf("commit: %w", err))
	}
	if err := s.failedError(); err != nil {
		return err // the engine reports some failures to its logger only
	}
	s.synced.advance(b)
	return nil
}

// committed does what waited for the group to be durable.
func (s *Store) committed(g *bundle) {
	if len(g.puts) > 0 || len(g.entries) > 0 {
		s.mu.Lock()
		for _, p := range g.puts {
			s.insert(p)
		}
		for _, en := range g.entries {
			s.recent.unpin(en)
		}
		s.mu.Unlock()
	}
	if len(g.slots) > 0 {
		s.keys.slots.release(g.slots...)
		s.keep.poke()
	}
	for _, id := range g.files {
		s.removeContent(id)
	}
	s.outcomes.committed()
}

// record is a name in the engine.
func recordKey(b []byte, prefix byte, id queue.ID) []byte {
	return append(append(b, prefix), id[:]...)
}

func deleteRecord(op *pebble.DeferredBatchOp, prefix byte, id queue.ID) *pebble.DeferredBatchOp {
	recordKey(op.Key[:0], prefix, id)
	return op
}

func stateKey(b []byte, id queue.ID, recipient int) []byte {
	return binary.BigEndian.AppendUint16(recordKey(b, prefixState, id), uint16(recipient))
}

const (
	recordKeySize  = 1 + len(queue.ID{})
	stateKeySize   = recordKeySize + 2
	envelopeHeader = 1 + 8 // version of the sealing, epoch
	sealVersion    = 1
)

// addPut writes a message's records to the current group. c.mu is held.
func (c *committer) addPut(p *incoming) {
	g := c.cur
	op := g.batch.SetDeferred(recordKeySize, envelopeHeader+len(p.plain)+tagSize)
	recordKey(op.Key[:0], prefixEnvelope, p.env.ID)
	v := append(op.Value[:0], sealVersion)
	v = binary.BigEndian.AppendUint64(v, p.epoch.id)
	nonce := fixedNonce(sealEnvelope)
	p.aead.Seal(v, nonce[:], p.plain, associated(op.Key, v))
	finish(op)
	if p.head != nil {
		op := g.batch.SetDeferred(recordKeySize, len(p.head)+tagSize)
		recordKey(op.Key[:0], prefixContent, p.env.ID)
		nonce := fixedNonce(sealContent)
		p.aead.Seal(op.Value[:0], nonce[:], p.head, op.Key)
		finish(op)
	}
	g.puts = append(g.puts, p)
	c.joined(true)
}

// associated binds an envelope to its name and header.
func associated(key, header []byte) []byte {
	b := make([]byte, 0, recordKeySize+envelopeHeader)
	return append(append(b, key...), header...)
}

// finish ends a deferred operation. It can fail only on an indexed batch.
func finish(op *pebble.DeferredBatchOp) { _ = op.Finish() }
