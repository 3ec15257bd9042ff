package pebblestore

import (
	"cmp"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// The slot file holds the keys of the messages that outlived their epoch: one
// slot of 64 octets each, which no disk sector splits. A slot is
//
//	2 octets mark · 10 octets queue ID · 4 octets zero · 48 octets sealed key
//
// A message's key is sealed once in its life, so that its ID serves as nonce.
// The first slot is the header and proves the master key.
const (
	slotName   = "slots"
	slotSize   = 64
	slotKey    = 16       // where the sealed key begins
	slotsAtOne = 64 << 10 // octets written or read at once
)

var (
	slotMark   = [2]byte{'k', 1}
	headerMark = [2]byte{'h', 1}
)

// slotFile is the slot file. Slot numbers begin at 0; the header is not one.
type slotFile struct {
	fs   vfs.FS
	path string
	wrap cipher.AEAD

	swap sync.RWMutex // held to read by who reads a slot, to write by who replaces the file
	file vfs.File

	mu   sync.Mutex
	n    uint32   // slots in the file, used or not
	used int      // slots that hold the key of a queued message
	free []uint32 // overwritten, to be used again
	gone []uint32 // of settled messages, still to be overwritten
}

// slotEntry is a slot in use, as load finds it.
type slotEntry struct {
	id   queue.ID
	slot uint32
}

func (s *slotFile) open(fs vfs.FS, path string, wrap cipher.AEAD) error {
	s.fs, s.path, s.wrap = fs, path, wrap
	f, err := fs.OpenReadWrite(path, writeCategory)
	if err != nil {
		return fmt.Errorf("open the slot file: %w", err)
	}
	s.file = f
	header := make([]byte, slotSize)
	n, err := f.ReadAt(header, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the slot file: %w", err)
	}
	if n < slotSize || !slices.ContainsFunc(header, func(b byte) bool { return b != 0 }) {
		// New, or a crash came before it was used.
		return s.writeHeader()
	}
	var id queue.ID
	if [2]byte(header) != headerMark {
		return fmt.Errorf("the slot file has an unknown format: %w", ErrKeys)
	}
	nonce := slotNonce(id, headerMark)
	if _, err := wrap.Open(nil, nonce[:], header[slotKey:], nil); err != nil {
		return fmt.Errorf("open the slot file: %w", ErrKeys)
	}
	return nil
}

func slotNonce(id queue.ID, mark [2]byte) (nonce [nonceSize]byte) {
	copy(nonce[:], mark[:])
	copy(nonce[2:], id[:])
	return nonce
}

func (s *slotFile) writeHeader() error {
	b := s.appendSlot(nil, headerMark, queue.ID{}, make([]byte, keySize))
	if err := ownerOnly(s.file); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write the slot file: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync the slot file: %w", err)
	}
	return s.syncFolder()
}

func (s *slotFile) syncFolder() error {
	dir, err := s.fs.OpenDir(s.fs.PathDir(s.path))
	if err != nil {
		return fmt.Errorf("open the key folder: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *slotFile) appendSlot(b []byte, mark [2]byte, id queue.ID, key []byte) []byte {
	b = append(b, mark[:]...)
	b = append(b, id[:]...)
	b = append(b, 0, 0, 0, 0)
	nonce := slotNonce(id, mark)
	return s.wrap.Seal(b, nonce[:], key, nil)
}

// load reads which slots are in use, ordered by queue ID. It is called while
// the queue is being opened, before any key moves.
func (s *slotFile) load() ([]slotEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the slot file: %w", err)
	}
	s.n = uint32(max(info.Size()/slotSize, 1) - 1)
	s.free = nil // a slot that stood there twice would be given to two messages
	var entries []slotEntry
	b := make([]byte, slotsAtOne)
	for at := uint32(0); at < s.n; {
		count := min(s.n-at, slotsAtOne/slotSize)
		part := b[:count*slotSize]
		if _, err := s.file.ReadAt(part, slotOffset(at)); err != nil {
			return nil, fmt.Errorf("read the slot file: %w", err)
		}
		for i := range count {
			if slot := part[i*slotSize:][:slotSize]; [2]byte(slot) == slotMark {
				entries = append(entries, slotEntry{queue.ID(slot[2:12]), at + i})
			} else {
				s.free = append(s.free, at+i)
			}
		}
		at += count
	}
	s.used = len(entries)
	slices.SortFunc(entries, func(a, b slotEntry) int { return cmp.Compare(string(a.id[:]), string(b.id[:])) })
	return entries, nil
}

func slotOffset(slot uint32) int64 { return slotSize * (1 + int64(slot)) }

// aead is the cipher of the message whose key is in the slot.
func (s *slotFile) aead(slot uint32, id queue.ID) (cipher.AEAD, error) {
	var b [slotSize]byte
	s.swap.RLock()
	_, err := s.file.ReadAt(b[:], slotOffset(slot))
	s.swap.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	return s.unwrap(b[:], id)
}

// unwrap opens the key in a slot.
func (s *slotFile) unwrap(b []byte, id queue.ID) (cipher.AEAD, error) {
	if [2]byte(b[:]) != slotMark || queue.ID(b[2:12]) != id {
		return nil, queue.ErrDamaged
	}
	nonce := slotNonce(id, slotMark)
	var key [sealedKey]byte
	defer clear(key[:])
	plain, err := s.wrap.Open(key[:0], nonce[:], b[slotKey:], nil)
	if err != nil {
		return nil, queue.ErrDamaged
	}
	return newAEAD(plain)
}

// slotReader reads slots by blocks, for who asks for many near each other.
type slotReader struct {
	s     *slotFile
	block uint32 // number of the block in b, from 1; 0: none
	b     []byte
}

func (r *slotReader) aead(slot uint32, id queue.ID) (cipher.AEAD, error) {
	const each = slotsAtOne / slotSize
	if block := slot/each + 1; block != r.block {
		r.b = slices.Grow(r.b[:0], slotsAtOne)[:slotsAtOne]
		n, err := r.s.file.ReadAt(r.b, slotOffset(slot/each*each))
		if err != nil && err != io.EOF {
			r.block = 0
			return nil, fmt.Errorf("read a key: %w", err)
		}
		clear(r.b[n:])
		r.block = block
	}
	return r.s.unwrap(r.b[slot%each*slotSize:][:slotSize], id)
}

// put writes the keys of the messages and returns the slot of each, once they
// are durable. keyOf appends a message's key.
func (s *slotFile) put(ids []queue.ID, keyOf func([]byte, queue.ID) []byte) ([]uint32, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := make([]uint32, len(ids))
	reuse := min(len(ids), len(s.free))
	copy(slots, s.free[len(s.free)-reuse:])
	s.free = s.free[:len(s.free)-reuse]
	slices.Sort(slots[:reuse]) // neighbours are written at once
	for i := reuse; i < len(slots); i++ {
		slots[i] = s.n
		s.n++
	}
	s.used += len(slots)
	var key [keySize]byte
	defer clear(key[:])
	err := s.write(slots, func(b []byte, i int) []byte {
		return s.appendSlot(b, slotMark, ids[i], keyOf(key[:0], ids[i]))
	})
	if err != nil {
		s.gone = append(s.gone, slots...)
		return nil, err
	}
	return slots, nil
}

// write fills the slots, each with what fill appends for it, and syncs.
func (s *slotFile) write(slots []uint32, fill func(b []byte, i int) []byte) error {
	b := make([]byte, 0, min(len(slots)*slotSize, slotsAtOne))
	for i := 0; i < len(slots); {
		b = b[:0]
		first := slots[i]
		for i < len(slots) && slots[i] == first+uint32(len(b)/slotSize) && len(b) < slotsAtOne {
			b = fill(b, i)
			i++
		}
		if _, err := s.file.WriteAt(b, slotOffset(first)); err != nil {
			return fmt.Errorf("write keys: %w", err)
		}
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync keys: %w", err)
	}
	return nil
}

// release marks slots of settled messages; the next scrub overwrites them.
func (s *slotFile) release(slots ...uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, slots...)
}

// dirty tells whether there is something to scrub.
func (s *slotFile) dirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.gone) > 0
}

// scrub overwrites the slots of settled messages.
func (s *slotFile) scrub() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gone) == 0 {
		return nil
	}
	slices.Sort(s.gone)
	s.gone = slices.Compact(s.gone)
	blank := make([]byte, slotSize)
	err := s.write(s.gone, func(b []byte, _ int) []byte { return append(b, blank...) })
	if err != nil {
		return err
	}
	s.used -= len(s.gone)
	s.free = append(s.free, s.gone...)
	s.gone = nil
	if s.used == 0 && s.n > shrinkSlots {
		return s.shrink()
	}
	return nil
}

// shrinkSlots is the size at which an unused slot file is replaced: 1 MiB.
const shrinkSlots = 1 << 20 / slotSize

// shrink gives back what a large backlog took. All slots are blank. The old
// file keeps its name until the new one takes it: keys that were written to a
// file without a name would be gone with the process.
func (s *slotFile) shrink() error {
	next := slotFile{fs: s.fs, path: s.path + ".new", wrap: s.wrap}
	err := next.create()
	if err == nil {
		if err = s.fs.Rename(next.path, s.path); err == nil {
			s.swap.Lock()
			next.file, s.file = s.file, next.file
			s.n, s.free = 0, nil
			s.swap.Unlock()
			err = s.syncFolder()
		}
	}
	if next.file != nil {
		err = errors.Join(err, next.file.Close())
	}
	if err != nil {
		return fmt.Errorf("shrink the slot file: %w", err)
	}
	return nil
}

// create makes the file new, with its header alone.
func (s *slotFile) create() error {
	f, err := s.fs.Create(s.path, writeCategory)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.file, err = s.fs.OpenReadWrite(s.path, writeCategory); err != nil {
		return err
	}
	return s.writeHeader()
}

func (s *slotFile) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
