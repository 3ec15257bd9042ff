package pebblestore

import (
	"crypto/rand"
	"fmt"

	"tacet/queue"
)

// change is what is to be recorded about a queued message.
type change struct {
	msg        uint32
	env        *queue.Envelope // with the change in it; nil if it could not be read, to be deleted
	recipients []int           // whose state has changed
	settled    bool            // nothing more is owed: the message goes
	entry      *entry          // may be nil if settled
	report     *incoming       // put in the same step; may be nil
}

// write adds a change to the current group, in the order in which changes
// happen in memory: s.mu is held.
func (s *Store) write(ch change) (*bundle, error) {
	m := s.index.msgs.at(ch.msg)
	if !ch.settled && ch.entry.aead == nil {
		aead, err := s.keys.aead(m.id, m.key)
		if err != nil {
			return nil, fmt.Errorf("find the message's key: %w", err)
		}
		ch.entry.aead = aead
	}
	c := &s.committer
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch.report != nil && ch.report.epoch != s.keys.current.Load() {
		if err := s.cipher(ch.report); err != nil {
			return nil, err
		}
	}
	if c.refuse {
		return nil, queue.ErrUnavailable
	}
	g := c.cur
	if ch.settled {
		c.addDelete(m, ch.env)
	} else {
		for _, i := range ch.recipients {
			c.addState(ch.entry, m.id, i, appendState(c.plain[:0], s.retries.Load(), &ch.env.Recipients[i]))
		}
		m.flags |= msgStates
		ch.entry.pins++
		g.entries = append(g.entries, ch.entry)
	}
	if ch.report != nil {
		g.urgent = true
		c.addPut(ch.report)
		if ch.settled {
			g.reported = append(g.reported, m.id)
		}
	}
	c.joined(false)
	return g, nil
}

// addState writes one recipient's state to the current group. c.mu is held.
func (c *committer) addState(en *entry, id queue.ID, recipient int, plain []byte) {
	c.plain = plain
	op := c.cur.batch.SetDeferred(stateKeySize, nonceSize+len(plain)+tagSize)
	stateKey(op.Key[:0], id, recipient)
	nonce := op.Value[:nonceSize]
	nonce[0] = sealState
	rand.Read(nonce[1:])
	en.aead.Seal(nonce, nonce, plain, op.Key)
	finish(op)
}

// addDelete removes all of a message in the current group. What it deletes in
// the memtable is not written to a table. A single deletion would spare the
// table its tombstone too, but the engine panics where a compaction that meets
// one cannot read what it deletes. c.mu is held.
func (c *committer) addDelete(m *message, env *queue.Envelope) {
	g := c.cur
	finish(deleteRecord(g.batch.DeleteDeferred(recordKeySize), prefixEnvelope, m.id))
	if m.flags&msgStreamed != 0 || env == nil {
		g.files = append(g.files, m.id)
	}
	if m.flags&msgStreamed == 0 {
		finish(deleteRecord(g.batch.DeleteDeferred(recordKeySize), prefixContent, m.id))
	}
	switch {
	case env == nil:
		last := append(stateKey(nil, m.id, maxRecipients-1), 0)
		_ = g.batch.DeleteRange(stateKey(nil, m.id, 0), last, nil)
	case m.flags&msgStates != 0:
		for i := range env.Recipients {
			op := g.batch.DeleteDeferred(stateKeySize)
			stateKey(op.Key[:0], m.id, i)
			finish(op)
		}
	}
	if m.key&refEpoch == 0 && m.key != refNone {
		g.slots = append(g.slots, uint32(m.key))
	}
}
