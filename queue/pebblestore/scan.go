package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"tacet/queue"
)

// parts says what of a message is read beside its envelope.
type parts struct{ states, content bool }

// load reads a message: its envelope, as it came or with its newest states, and
// its content if that is asked for.
func (s *Store) load(id queue.ID, ref keyRef, want parts) (*entry, error) {
	aead, err := s.keys.aead(id, ref)
	if err != nil {
		return nil, err
	}
	key := recordKey(make([]byte, 0, stateKeySize), prefixEnvelope, id)
	sealed, err := s.get(key)
	if err != nil {
		return nil, fmt.Errorf("read an envelope: %w", err)
	}
	if len(sealed) < envelopeHeader+tagSize || sealed[0] != sealVersion {
		return nil, queue.ErrDamaged
	}
	nonce := fixedNonce(sealEnvelope)
	plain, err := aead.Open(nil, nonce[:], sealed[envelopeHeader:], associated(key, sealed[:envelopeHeader]))
	if err != nil {
		return nil, queue.ErrDamaged
	}
	d := decoder{b: plain}
	r, ok := d.envelope(id, false)
	if !ok {
		return nil, queue.ErrDamaged
	}
	en := &entry{env: r.env, fileKey: r.fileKey, aead: aead}
	s.retried(r.env.Recipients, r.retries)
	if want.states {
		if err := s.loadStates(en); err != nil {
			return nil, err
		}
	}
	if !want.content {
		return en, nil
	}
	if en.fileKey != nil {
		if _, err := s.fs.Stat(s.contentPath(id)); err != nil {
			return nil, fmt.Errorf("find a content file: %w", err)
		}
		return en, nil
	}
	key[0] = prefixContent
	if sealed, err = s.get(key); err != nil {
		return nil, fmt.Errorf("read a content: %w", err)
	}
	nonce = fixedNonce(sealContent)
	if en.head, err = aead.Open(sealed[:0], nonce[:], sealed, key); err != nil || int64(len(en.head)) != en.env.Size {
		return nil, queue.ErrDamaged
	}
	return en, nil
}

// get reads a copy of one record.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(v), closer.Close()
}

// retried makes due what waited when the operator last asked for everything
// to be tried, see Store.RetryAll.
func (s *Store) retried(recipients []queue.Recipient, retries uint64) {
	if retries >= s.retries.Load() {
		return
	}
	for i := range recipients {
		if recipients[i].State == queue.Waiting {
			recipients[i].Next = fromNanos(0)
		}
	}
}

// loadStates applies a message's state records to its envelope.
func (s *Store) loadStates(en *entry) error {
	it, err := s.db.NewIter(stateBounds(en.env.ID))
	if err != nil {
		return fmt.Errorf("read states: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = s.applyState(en, it.Key(), it.Value(), nil, false)
	}
	return errors.Join(err, it.Error(), it.Close())
}

func stateBounds(id queue.ID) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: stateKey(nil, id, 0), UpperBound: append(stateKey(nil, id, maxRecipients-1), 0)}
}

// applyState opens one state record into the envelope.
func (s *Store) applyState(en *entry, key, sealed, scratch []byte, brief bool) error {
	recipient := int(binary.BigEndian.Uint16(key[recordKeySize:]))
	if len(sealed) < nonceSize+tagSize || recipient >= len(en.env.Recipients) || sealed[0] != sealState {
		return queue.ErrDamaged
	}
	plain, err := en.aead.Open(scratch[:0], sealed[:nonceSize], sealed[nonceSize:], key)
	if err != nil {
		return queue.ErrDamaged
	}
	d := decoder{b: plain}
	rc := &en.env.Recipients[recipient]
	retries, ok := d.state(rc, brief)
	if !ok {
		return queue.ErrDamaged
	}
	s.retried(en.env.Recipients[recipient:recipient+1], retries)
	return nil
}

// scanner fills the index at open. It goes over the envelope records and,
// beside them, the state records, both ordered by queue ID.
type scanner struct {
	s      *Store
	states *pebble.Iterator
	more   bool // states stands on a record

	gaps      int    // spans of records that cannot be read
	lastState []byte // name of the newest state record
	stateGap  bool   // states were skipped

	slots  []slotEntry
	taken  []bool // which slots have a message
	epochs map[uint64]*epoch
	reader slotReader
	plain  []byte
	state  []byte
	batch  []scanned
}

// scanned is a message that the scan has read.
type scanned struct {
	id      queue.ID
	key     keyRef
	size    int64
	flags   uint8
	routes  uint8
	sender  uint32
	env     *queue.Envelope
	targets []target
	cause   error // why it is damaged
}

// maxGaps ends the reading of a disk that has gone bad all over.
const maxGaps = 1000

// scanBatch is how many messages enter the index at once.
const scanBatch = 256

// scan reads what an earlier process left in the queue. Mail that comes
// meanwhile is in the index already.
func (s *Store) scan(ctx context.Context, snapshot *pebble.Snapshot) error {
	slots, err := s.keys.slots.load()
	if err != nil {
		return err
	}
	sc := &scanner{s: s, slots: slots, taken: make([]bool, len(slots)), epochs: make(map[uint64]*epoch), reader: slotReader{s: &s.keys.slots}}
	states, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixState}, UpperBound: []byte{prefixState + 1}})
	if err != nil {
		return fmt.Errorf("read states: %w", err)
	}
	defer states.Close()
	sc.states, sc.more = states, states.First()
	sc.lastState = stateKey(nil, queue.ID{}, 0)
	sc.skipStates()
	envelopes, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixEnvelope}, UpperBound: []byte{prefixEnvelope + 1}})
	if err != nil {
		return fmt.Errorf("read envelopes: %w", err)
	}
	defer envelopes.Close()
	last := recordKey(nil, prefixEnvelope, queue.ID{})
	for ok := envelopes.First(); ; ok = envelopes.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var value []byte
		if err = envelopes.Error(); ok {
			value, err = envelopes.ValueAndErr()
		}
		if err != nil {
			if ok, err = sc.skip(envelopes, last, err); err != nil {
				return err
			}
			value = envelopes.Value()
		}
		if !ok {
			break
		}
		last = append(last[:0], envelopes.Key()...)
		if len(last) != recordKeySize {
			continue
		}
		sc.batch = append(sc.batch, sc.read(queue.ID(last[1:]), last, value))
		if len(sc.batch) == scanBatch {
			sc.flush()
		}
	}
	sc.flush()
	if sc.gaps > 0 {
		s.markDamaged()
		s.mu.Lock()
		s.gapped = true
		s.mu.Unlock()
		sc.missing()
	} else {
		// What is not in the index is not on the disk either.
		sc.releaseSlots()
		err = s.removeOrphans()
	}
	return err
}

// skip moves an iterator that has met damage beyond it. The damage ends a
// block of records that came one after the other, so the first readable
// record is found by bisection, and the others flow.
func (sc *scanner) skip(it *pebble.Iterator, last []byte, cause error) (bool, error) {
	sc.gaps++
	sc.s.opts.Events(Event{Kind: EventScan, Err: fmt.Errorf("read the queue: %w", cause)})
	if sc.gaps > maxGaps {
		return false, fmt.Errorf("read the queue: %w", cause)
	}
	// Eight octets of the ID tell records apart well enough.
	low, high := binary.BigEndian.Uint64(last[1:]), uint64(math.MaxUint64)
	seek := func(at uint64) bool {
		return it.SeekGE(append(binary.BigEndian.AppendUint64([]byte{last[0]}, at), 0)) || it.Error() == nil
	}
	for low+1 < high {
		if mid := low + (high-low)/2; seek(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	if !seek(high) {
		return false, fmt.Errorf("read the queue: %w", it.Error())
	}
	return it.Valid(), nil
}

// nextState moves to the next state record.
func (sc *scanner) nextState() {
	if sc.more {
		sc.lastState = append(sc.lastState[:0], sc.states.Key()...)
	}
	sc.more = sc.states.Next()
	sc.skipStates()
}

// skipStates moves beyond damage. Of the messages whose states are there it is
// not known how they stand; that shows when they are claimed and read whole.
func (sc *scanner) skipStates() {
	if sc.more || sc.states.Error() == nil {
		return
	}
	sc.stateGap = true
	sc.more, _ = sc.skip(sc.states, sc.lastState, sc.states.Error())
}

// read opens one envelope record and the states that belong to it.
func (sc *scanner) read(id queue.ID, key, sealed []byte) scanned {
	m := scanned{id: id, key: refNone}
	env, err := sc.open(&m, key, sealed)
	if err != nil {
		m.flags |= msgDamaged
		m.cause = err
		return m
	}
	m.env = env
	r := sc.s.routing.Load()
	m.routes = r.number
	m.targets = appendTargets(nil, r, env, nil)
	for i := range env.Recipients {
		if env.Recipients[i].State == queue.Held {
			m.flags |= msgHeld
		}
	}
	return m
}

func (sc *scanner) open(m *scanned, key, sealed []byte) (*queue.Envelope, error) {
	if len(sealed) < envelopeHeader+tagSize || sealed[0] != sealVersion {
		return nil, queue.ErrDamaged
	}
	m.key = sc.keyOf(m.id, binary.BigEndian.Uint64(sealed[1:]))
	aead, err := sc.aead(m.id, m.key)
	if err != nil {
		return nil, err
	}
	nonce := fixedNonce(sealEnvelope)
	plain, err := aead.Open(sc.plain[:0], nonce[:], sealed[envelopeHeader:], associated(key, sealed[:envelopeHeader]))
	if err != nil {
		return nil, queue.ErrDamaged
	}
	sc.plain = plain
	d := decoder{b: plain}
	r, ok := d.envelope(m.id, true)
	if !ok {
		return nil, queue.ErrDamaged
	}
	m.size, m.sender = r.env.Size, sc.s.senders.of(r.from)
	if r.fileKey != nil {
		m.flags |= msgStreamed
	}
	sc.s.retried(r.env.Recipients, r.retries)
	en := &entry{env: r.env, aead: aead}
	err = sc.readStates(m, en)
	if sc.stateGap {
		m.flags |= msgStates // it may have some in the gap
	}
	return r.env, err
}

// readStates applies the states that belong to the message at which the scan is.
func (sc *scanner) readStates(m *scanned, en *entry) error {
	for ; sc.more; sc.nextState() {
		k := sc.states.Key()
		if len(k) != stateKeySize {
			continue
		}
		switch order := bytes.Compare(k[1:recordKeySize], m.id[:]); {
		case order < 0:
			continue
		case order > 0:
			return nil
		}
		m.flags |= msgStates
		if err := sc.s.applyState(en, k, sc.states.Value(), sc.state, true); err != nil {
			return err
		}
	}
	return nil
}

// keyOf finds where a message's key is: in its epoch if that has not been
// ended yet, whatever the slots say, or else in a slot.
func (sc *scanner) keyOf(id queue.ID, epochID uint64) keyRef {
	e, known := sc.epochs[epochID]
	if !known {
		e = sc.s.keys.byID(epochID)
		sc.epochs[epochID] = e
	}
	if e != nil {
		return e.ref
	}
	i, ok := slices.BinarySearchFunc(sc.slots, id, func(e slotEntry, id queue.ID) int {
		return cmp.Compare(string(e.id[:]), string(id[:]))
	})
	if !ok {
		return refNone
	}
	sc.taken[i] = true
	return keyRef(sc.slots[i].slot)
}

func (sc *scanner) aead(id queue.ID, ref keyRef) (cipher.AEAD, error) {
	if ref&refEpoch == 0 && ref != refNone {
		return sc.reader.aead(uint32(ref), id)
	}
	return sc.s.keys.aead(id, ref)
}

// flush enters what was read into the index.
func (sc *scanner) flush() {
	s := sc.s
	s.mu.Lock()
	for i := range sc.batch {
		m := &sc.batch[i]
		if _, known := s.index.byID[m.id]; known || s.settled[m.id] {
			continue
		}
		mi := s.index.add(message{id: m.id, key: m.key, flags: m.flags, routes: m.routes, sender: m.sender}, m.size)
		for _, t := range m.targets {
			s.index.addGroup(mi, t.dest, t.next, t.parked)
		}
	}
	s.mu.Unlock()
	for i := range sc.batch {
		if m := &sc.batch[i]; m.cause != nil {
			s.opts.Events(Event{Kind: EventDamaged, ID: m.id, Err: m.cause})
		}
	}
	clear(sc.batch)
	sc.batch = sc.batch[:0]
	s.opts.Wake()
}

// missing counts what is in the gaps. A key in a slot that no message was
// found for is that of one of them, or of one that was settled in the last
// seconds of an earlier process; which of them, the next open finds out.
func (sc *scanner) missing() {
	s := sc.s
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for i, e := range sc.slots {
		if _, known := s.index.byID[e.id]; !known && !sc.taken[i] && !s.settled[e.id] {
			s.index.add(message{id: e.id, key: keyRef(e.slot), flags: msgDamaged, routes: s.routing.Load().number}, 0)
			found = true
		}
	}
	if !found {
		s.unreadable = sc.gaps
	}
}

// releaseSlots gives up the slots that no queued message needs: those of
// messages whose deletion was durable before their slot was overwritten, and
// those of an epoch that a crash kept from ending.
func (sc *scanner) releaseSlots() {
	for i, e := range sc.slots {
		if !sc.taken[i] {
			sc.s.keys.slots.release(e.slot)
		}
	}
	sc.s.keep.poke()
}

// removeOrphans removes content files of messages that are not queued: never
// acknowledged, or settled just before the process ended.
func (s *Store) removeOrphans() error {
	names, err := s.fs.List(s.contents)
	if err != nil {
		return fmt.Errorf("list the content folder: %w", err)
	}
	for _, name := range names {
		id, err := queue.ParseID(name)
		if err != nil {
			continue // not ours
		}
		if s.streams.has(id) {
			continue
		}
		s.mu.Lock()
		_, queued := s.index.byID[id]
		s.mu.Unlock()
		if !queued {
			s.removeContent(id)
		}
	}
	return nil
}
