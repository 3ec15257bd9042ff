package pebblestore

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"tacet/queue"
)

// salvage copies what can be read of the old engine into a new one. It reads
// every table and log twice: first for what is deleted and which state is the
// newest, then for the records themselves. In memory it keeps some 100 octets
// for each message. A message that has been there, and is not whole any more,
// is left as one that does not match its checksum: it is set aside and counted.
//
// A message whose deletion alone was in the damaged part comes back and is
// delivered once more, unless its key is gone: then it is nobody's any more,
// and is left out.
type salvage struct {
	s       *Store
	tables  []string
	logs    []uint64
	lastSeq uint64 // of what was in tables
	slots   []slotEntry
	old     []*epoch
	deleted map[queue.ID]bool
	spans   []operation                   // range deletions of envelopes
	newest  map[[stateKeySize]byte]uint64 // sequence number of each newest state
	meta    map[string]operation          // the newest of what the engine holds beside messages
	known   map[queue.ID]bool             // messages that have left a trace; true: their envelope is copied
	broken  map[string]bool               // records that are not authentic
	db      *pebble.DB
	batch   *pebble.Batch
	said    time.Time

	lossy   bool // parts of tables cannot be read
	lostOps int  // operations missing in the logs
	report  Salvaged
}

// Salvaged tells what came of reading around damage.
type Salvaged struct {
	Messages  int // copied with their envelope
	Lost      int // that have left a trace, or a gap, and no envelope: they are counted as damaged
	Forgotten int // left out because nobody has their key
}

// salvageNews is how often the operator hears that it goes on.
const salvageNews = 10 * time.Second

// salvage makes a new engine of what can be read of the old one, and puts it
// in its place.
func (s *Store) salvage(cause error) (err error) {
	s.opts.Events(Event{Kind: EventSalvaging, Err: cause})
	v := &salvage{
		s: s, deleted: make(map[queue.ID]bool), newest: make(map[[stateKeySize]byte]uint64), meta: make(map[string]operation),
		known: make(map[queue.ID]bool), broken: make(map[string]bool), said: time.Now(), old: s.keys.ended(),
	}
	if err := v.find(); err != nil {
		return fmt.Errorf("list what can be salvaged: %w", err)
	}
	if err := v.each(v.first); err != nil {
		return fmt.Errorf("read what can be salvaged: %w", err)
	}
	dir := s.fs.PathJoin(s.opts.Dir, salvageDir)
	if err := v.open(dir); err != nil {
		return fmt.Errorf("make a new engine: %w", err)
	}
	err = v.each(v.second)
	if err == nil {
		err = v.finish()
	}
	if err = errors.Join(err, v.close()); err != nil {
		return fmt.Errorf("copy what can be salvaged: %w", errors.Join(err, s.fs.RemoveAll(dir)))
	}
	if err := s.fs.Remove(s.fs.PathJoin(dir, "LOCK")); err != nil {
		return fmt.Errorf("finish a new engine: %w", err)
	}
	if err := errors.Join(s.syncDir(dir), s.fs.Rename(dir, s.fs.PathJoin(s.opts.Dir, salvagedDir)), s.syncDir(s.opts.Dir)); err != nil {
		return fmt.Errorf("put the new engine in place: %w", err)
	}
	if err := s.finishSalvage(); err != nil {
		return fmt.Errorf("put the new engine in place: %w", err)
	}
	s.opts.Events(Event{Kind: EventSalvaged, Salvaged: v.report})
	return nil
}

// find lists the tables and logs to read.
func (v *salvage) find() error {
	s := v.s
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return err
	}
	m, err := s.readManifest(names)
	if err != nil || m.torn {
		m = nil // all there are: of two versions the newer one wins
	}
	for _, name := range names {
		n, ok := fileNumber(name, ".sst")
		if !ok {
			continue
		}
		if m == nil {
			v.tables = append(v.tables, name)
		} else if size, used := m.tables[n]; used {
			v.tables = append(v.tables, name)
			info, err := s.fs.Stat(s.fs.PathJoin(s.opts.Dir, name))
			if err != nil {
				return err
			}
			v.lossy = v.lossy || info.Size() < size
			delete(m.tables, n)
		}
	}
	v.lossy = v.lossy || m != nil && len(m.tables) > 0 // there were others
	v.logs = logNumbers(names)
	if m != nil {
		v.lastSeq = m.lastSeq
		v.logs = slices.DeleteFunc(v.logs, func(n uint64) bool { return n < m.firstLog })
	} else if err := v.cutLogs(); err != nil {
		return err
	}
	v.slots, err = s.keys.slots.load()
	return err
}

// cutLogs leaves out logs that were not in use any more, where the manifest
// does not tell: those before a gap that no damage explains. What they hold may
// have been deleted in the log that is gone.
func (v *salvage) cutLogs() error {
	c := logChain{s: v.s}
	from := 0
	for i, n := range v.logs {
		before := c.damagedEnd
		if err := c.read(n, func(*operation) error { return nil }); err != nil {
			return err
		}
		if c.border > 0 && !before {
			from = i
		}
	}
	v.logs = v.logs[from:]
	return nil
}

// each goes over all operations of all tables and logs.
func (v *salvage) each(yield func(*operation) error) error {
	s := v.s
	tables := newTableReader()
	for _, name := range v.tables {
		v.news()
		b, err := readFile(s.fs, s.fs.PathJoin(s.opts.Dir, name))
		if err != nil {
			return err
		}
		lossy, err := tables.read(b, func(op *operation) error {
			if op.doubted && !v.vouched(op) {
				return nil
			}
			return yield(op)
		})
		if err != nil {
			return err
		}
		v.lossy = v.lossy || lossy
	}
	c := logChain{s: s}
	for _, n := range v.logs {
		v.news()
		if err := c.read(n, yield); err != nil {
			return err
		}
	}
	v.lostOps = c.lost + c.tail
	if synced := s.synced.read(); synced > max(c.last(), v.lastSeq) {
		v.lostOps = max(v.lostOps, c.lost+int(synced-max(c.last(), v.lastSeq)))
	}
	return nil
}

// news tells now and then that it goes on: while each file is begun, and each
// part of the new engine written.
func (v *salvage) news() {
	if time.Since(v.said) > salvageNews {
		v.said = time.Now()
		v.s.opts.Events(Event{Kind: EventSalvaging, Salvaged: v.report})
	}
}

// vouched tells whether a record of a table's damaged block counts as one that
// is sound: what is authentic does. Of the number that says how new it is
// nothing is known then. A message has one envelope and one content, which so
// are as good as the newest; a state gives way to any that is sound.
func (v *salvage) vouched(op *operation) bool {
	if !op.set() || !v.authentic(op) {
		return false
	}
	op.doubted, op.seq = false, newestSequence
	if op.key[0] == prefixState {
		op.seq = 0
	}
	return true
}

// first notes what is deleted, and which state is the newest.
func (v *salvage) first(op *operation) error {
	switch {
	case op.doubted && !(op.set() && v.authentic(op) || op.deletion() && op.between):
	case op.deletion():
		if ours(op.key) {
			v.deleted[queue.ID(op.key[1:])] = true
		}
	case op.kind == pebble.InternalKeyKindRangeDelete:
		if op.key[0] == prefixEnvelope {
			v.spans = append(v.spans, operation{key: bytes.Clone(op.key), value: bytes.Clone(op.value), seq: op.seq})
		}
	case !op.set():
	case len(op.key) == stateKeySize && op.key[0] == prefixState:
		key := [stateKeySize]byte(op.key)
		v.newest[key] = max(v.newest[key], op.seq)
	case string(op.key) == keyRetries || string(op.key) == keyFormat:
		if have, ok := v.meta[string(op.key)]; !ok || have.seq <= op.seq {
			v.meta[string(op.key)] = operation{value: bytes.Clone(op.value), seq: op.seq}
		}
	}
	return nil
}

// second copies the records of messages that are queued.
func (v *salvage) second(op *operation) error {
	if !op.set() || !ours(op.key) {
		return nil
	}
	id := queue.ID(op.key[1:])
	if v.isDeleted(id, op.seq) {
		return nil
	}
	if op.doubted && !v.authentic(op) {
		v.broken[string(op.key)] = true
		return nil
	}
	if op.key[0] == prefixState && v.newest[[stateKeySize]byte(op.key)] != op.seq {
		return nil
	}
	if !v.keyed(op) {
		if op.key[0] == prefixEnvelope {
			v.report.Forgotten++
		}
		return nil
	}
	envelope := op.key[0] == prefixEnvelope
	if envelope && !v.known[id] {
		v.report.Messages++
	}
	v.known[id] = v.known[id] || envelope
	return v.write(op.key, op.value)
}

func (v *salvage) isDeleted(id queue.ID, seq uint64) bool {
	if v.deleted[id] {
		return true
	}
	var room [recordKeySize]byte
	key := recordKey(room[:0], prefixEnvelope, id)
	return slices.ContainsFunc(v.spans, func(span operation) bool {
		return seq < span.seq && bytes.Compare(span.key, key) <= 0 && bytes.Compare(key, span.value) < 0
	})
}

// slotOf finds the slot that holds the message's key.
func (v *salvage) slotOf(id queue.ID) (slot uint32, ok bool) {
	i, ok := slices.BinarySearchFunc(v.slots, id, func(e slotEntry, id queue.ID) int {
		return cmp.Compare(string(e.id[:]), string(id[:]))
	})
	if !ok {
		return 0, false
	}
	return v.slots[i].slot, true
}

// keyed tells whether the key of the record's message still exists.
func (v *salvage) keyed(op *operation) bool {
	if _, ok := v.slotOf(queue.ID(op.key[1:])); ok {
		return true
	}
	if op.key[0] == prefixEnvelope && len(op.value) >= envelopeHeader {
		return v.s.keys.byID(binary.BigEndian.Uint64(op.value[1:])) != nil
	}
	return v.authentic(op)
}

// authentic tells whether a message's key that still exists has sealed the record.
func (v *salvage) authentic(op *operation) bool {
	if !ours(op.key) {
		return false
	}
	id := queue.ID(op.key[1:])
	if slot, ok := v.slotOf(id); ok {
		if aead, err := v.s.keys.slots.aead(slot, id); err == nil && opens(aead, op) {
			return true
		}
	}
	return slices.ContainsFunc(v.old, func(e *epoch) bool {
		aead, err := e.aead(id)
		return err == nil && opens(aead, op)
	})
}

// opens tells whether the cipher opens the record.
func opens(aead cipher.AEAD, op *operation) bool {
	nonce, sealed, data := fixedNonce(sealContent), op.value, op.key
	switch op.key[0] {
	case prefixEnvelope:
		if len(sealed) < envelopeHeader {
			return false
		}
		nonce, sealed, data = fixedNonce(sealEnvelope), sealed[envelopeHeader:], associated(op.key, sealed[:envelopeHeader])
	case prefixState:
		if len(sealed) < nonceSize {
			return false
		}
		nonce, sealed = [nonceSize]byte(sealed), sealed[nonceSize:]
	}
	_, err := aead.Open(nil, nonce[:], sealed, data)
	return err == nil
}
