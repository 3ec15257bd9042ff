package pebblestore

import (
	"bufio"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// Checkpoint makes a copy of the queue in dir, which must not exist yet and is
// best on the same file system: tables and content files are then linked and
// take no room. The copy can be opened as Options.Dir. All that was put or
// settled when Checkpoint was called is in it as that. No key is: without the
// keys (see WriteKeys) the copy opens nothing.
//
// It returns how many messages were queued. Those that are settled while it
// works may be in the copy as queued, and their keys are gone. ErrFull says
// that there is no room for a copy of the log, some 30 MB. After an error dir
// holds a part that is of no use.
func (s *Store) Checkpoint(ctx context.Context, dir string) (messages int, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("copy the queue: %w", err)
	}
	// The engine takes an error from its log, this copy of it included, for the
	// end. What a Put leaves free is enough for the copy.
	if err := s.Ready(); err != nil {
		return 0, fmt.Errorf("copy the queue: %w", err)
	}
	if err := s.flush(); err != nil {
		return 0, fmt.Errorf("copy the queue: %w", err)
	}
	if err := s.engineDo(func() error { return s.db.Checkpoint(dir, pebble.WithFlushedWAL()) }); err != nil {
		return 0, fmt.Errorf("copy the queue's engine: %w", err)
	}
	// What the engine's copy holds is in the index after this.
	if err := s.flush(); err != nil {
		return 0, fmt.Errorf("copy the queue: %w", err)
	}
	contents := s.fs.PathJoin(dir, contentDir)
	if err := s.fs.MkdirAll(contents, 0o700); err != nil {
		return 0, fmt.Errorf("make the copy's content folder: %w", err)
	}
	ids := s.ids()
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("copy the queue: %w", err)
		}
		if !s.streamed(id) {
			continue
		}
		err := vfs.LinkOrCopy(s.fs, s.contentPath(id), s.fs.PathJoin(contents, id.String()))
		if err != nil && s.streamed(id) { // else it was settled meanwhile
			return 0, fmt.Errorf("copy a content file: %w", err)
		}
	}
	return len(ids), nil
}

// streamed tells whether the message is queued and has a content file.
func (s *Store) streamed(id queue.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mi, ok := s.index.byID[id]
	return ok && s.index.msgs.at(mi).flags&msgStreamed != 0
}

// keysMark begins what WriteKeys writes. Then come the messages, each its
// queue ID and its key.
const (
	keysMark   = "tacet keys 1\n"
	keysRecord = len(queue.ID{}) + keySize
)

// WriteKeys writes the keys of all queued messages to w, in the clear, for
// ReadKeys. Whoever has them opens those messages in any copy of the queue,
// and no other message. It returns how many there were.
func (s *Store) WriteKeys(ctx context.Context, w io.Writer) (keys int, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, fmt.Errorf("write the keys: %w", err)
	}
	out := bufio.NewWriterSize(w, slotsAtOne)
	if _, err := out.WriteString(keysMark); err != nil {
		return 0, fmt.Errorf("write the keys: %w", err)
	}
	var record [keysRecord]byte
	defer clear(record[:])
	reader := slotReader{s: &s.keys.slots}
	for _, id := range s.ids() {
		if err := ctx.Err(); err != nil {
			return keys, fmt.Errorf("write the keys: %w", err)
		}
		b, err := s.appendKey(append(record[:0], id[:]...), id, &reader)
		if errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrDamaged) {
			continue // settled meanwhile, or nobody has its key
		}
		if err == nil {
			_, err = out.Write(b)
		}
		if err != nil {
			return keys, fmt.Errorf("write the keys: %w", err)
		}
		keys++
	}
	if err := out.Flush(); err != nil {
		return keys, fmt.Errorf("write the keys: %w", err)
	}
	return keys, nil
}

// place is where a message's key is: in an epoch that can be read from, or in a
// slot. It is ErrNotFound if the message is settled, ErrDamaged if nobody has
// its key.
func (s *Store) place(id queue.ID) (*epoch, uint32, error) {
	for {
		s.mu.Lock()
		mi, ok := s.index.byID[id]
		ref := refNone
		if ok {
			ref = s.index.msgs.at(mi).key
		}
		s.mu.Unlock()
		switch {
		case !ok:
			return nil, 0, queue.ErrNotFound
		case ref == refNone:
			return nil, 0, queue.ErrDamaged
		case ref&refEpoch == 0:
			return nil, uint32(ref), nil
		}
		s.keys.mu.RLock()
		e := s.keys.epochs[ref]
		s.keys.mu.RUnlock()
		if e != nil {
			return e, 0, nil
		}
		// It has moved to a slot since.
	}
}

// appendKey appends the key of a queued message to b.
func (s *Store) appendKey(b []byte, id queue.ID, reader *slotReader) ([]byte, error) {
	e, slot, err := s.place(id)
	if err != nil {
		return b, err
	}
	if e != nil {
		return e.messageKey(b, id), nil
	}
	// Reads the slot's block, and finds what is wrong with the slot.
	if _, err := reader.fresh(slot, id); err != nil {
		return b, err
	}
	nonce := slotNonce(id, slotMark)
	const each = slotsAtOne / slotSize
	key, err := reader.s.wrap.Open(b, nonce[:], reader.b[slot%each*slotSize:][slotKey:slotSize], nil)
	if err != nil {
		return b, queue.ErrDamaged
	}
	return key, nil
}

// fresh is aead for a slot that may have been filled since its block was read.
func (r *slotReader) fresh(slot uint32, id queue.ID) (cipher.AEAD, error) {
	r.s.swap.RLock()
	defer r.s.swap.RUnlock()
	aead, err := r.aead(slot, id)
	if errors.Is(err, queue.ErrDamaged) {
		r.block = 0
		aead, err = r.aead(slot, id)
	}
	return aead, err
}

// ErrKeyFile says that what ReadKeys was given is not what WriteKeys wrote.
var ErrKeyFile = errors.New("the file of keys is damaged")

// ReadKeys puts keys that WriteKeys wrote into the key folder of o, which no
// store may have open; Destination and Dir are not needed. A folder that is
// not there is made. It returns how many there were.
func ReadKeys(o Options, r io.Reader) (keys int, err error) {
	o = o.withDefaults()
	in := bufio.NewReaderSize(r, slotsAtOne)
	mark := make([]byte, len(keysMark))
	if _, err := io.ReadFull(in, mark); err != nil || string(mark) != keysMark {
		return 0, errors.Join(ErrKeyFile, err)
	}
	k, err := openKeyring(o.FS, o.KeyDir, o.MasterKey)
	if err != nil {
		return 0, fmt.Errorf("open the key folder: %w", err)
	}
	defer func() { err = errors.Join(err, k.destroy(k.current.Load()), k.close()) }()
	if _, err := k.slots.load(); err != nil {
		return 0, fmt.Errorf("open the key folder: %w", err)
	}
	for {
		ids, byID, err := readKeyChunk(in)
		if err != nil {
			return keys, err
		}
		if len(ids) == 0 {
			return keys, nil
		}
		if _, err := k.slots.put(ids, func(b []byte, id queue.ID) []byte {
			key := byID[id]
			return append(b, key[:]...)
		}); err != nil {
			return keys, err
		}
		keys += len(ids)
	}
}

// readKeyChunk reads the next keys, moveChunk of them or all that are left.
func readKeyChunk(in io.Reader) (ids []queue.ID, byID map[queue.ID][keySize]byte, err error) {
	byID = make(map[queue.ID][keySize]byte)
	var record [keysRecord]byte
	defer clear(record[:])
	for len(ids) < moveChunk {
		_, err := io.ReadFull(in, record[:])
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, errors.Join(ErrKeyFile, err)
		}
		id := queue.ID(record[:])
		if _, twice := byID[id]; twice {
			return nil, nil, ErrKeyFile
		}
		ids, byID[id] = append(ids, id), [keySize]byte(record[len(id):])
	}
	return ids, byID, nil
}

// Forgotten lists the messages that are whole and have no key: those of a copy
// of the queue that were settled after it was made, or whose keys were not
// restored with it. They are counted as damaged until they are deleted.
func (s *Store) Forgotten(ctx context.Context) ([]queue.ID, error) {
	var ids []queue.ID
	err := s.each(ctx, func(id queue.ID) error {
		s.mu.Lock()
		mi, ok := s.index.byID[id]
		ok = ok && s.index.msgs.at(mi).key == refNone
		s.mu.Unlock()
		if !ok {
			return nil
		}
		sealed, err := s.get(recordKey(nil, prefixEnvelope, id))
		if errors.Is(err, pebble.ErrNotFound) || pebble.IsCorruptionError(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an envelope: %w", err)
		}
		if len(sealed) >= envelopeHeader+tagSize && sealed[0] == sealVersion {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find what is forgotten: %w", err)
	}
	return ids, nil
}
