package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// outcomes is a small file that every delivery is written to at once, without
// a sync, while its settlement waits for a group to ride with. So a process
// that is killed leaves nothing in its own memory that would be delivered
// twice; only a power cut can take the last milliseconds' outcomes. It holds
// queue IDs and numbers of recipients, and begins anew once what it says is durable.
type outcomes struct {
	mu      sync.Mutex
	fs      vfs.FS
	dir     string
	file    vfs.File // nil: outcomes are not written, for the disk took none
	name    string
	number  uint64
	size    int
	old     string // the file before, until the group that is gathering now is durable
	scratch []byte
}

const (
	outcomePrefix = "outcomes-"
	outcomeSize   = len(queue.ID{}) + 2 + 4
	outcomesMax   = 4096 * outcomeSize // octets of a file: what a start has to look up, twice
)

// add writes that recipients of a message were delivered to. An error costs
// nothing but the file's purpose, so it is not told.
func (o *outcomes) add(id queue.ID, outcomes []queue.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return
	}
	b := o.scratch[:0]
	for _, out := range outcomes {
		if out.State != queue.Delivered || out.Owed != nil {
			continue // failed once more, it is reported once more
		}
		at := len(b)
		b = append(b, id[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(out.Recipient))
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
	}
	o.scratch = b
	if len(b) == 0 {
		return
	}
	if _, err := o.file.Write(b); err != nil {
		o.size = outcomesMax // half an entry may stand there: begin anew
		return
	}
	o.size += len(b)
}

// committed is called by the committer after a group has become durable and
// before the next one is closed.
func (o *outcomes) committed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.old != "" {
		// The group that was gathering when it was full is durable by now.
		_ = o.fs.Remove(o.fs.PathJoin(o.dir, o.old))
		o.old = ""
	}
	if o.file != nil && o.size < outcomesMax {
		return
	}
	before := o.name
	if o.begin() == nil {
		o.old = before
	}
}

// begin opens the next file.
func (o *outcomes) begin() error {
	if o.file != nil {
		_ = o.file.Close()
		o.file = nil
	}
	o.number++
	name := outcomePrefix + strconv.FormatUint(o.number, 10)
	f, err := o.fs.Create(o.fs.PathJoin(o.dir, name), writeCategory)
	if err != nil {
		return fmt.Errorf("begin a file of outcomes: %w", err)
	}
	if err := ownerOnly(f); err != nil {
		return errors.Join(err, f.Close())
	}
	o.file, o.name, o.size = f, name, 0
	return nil
}

func (o *outcomes) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return
	}
	_ = o.file.Close()
	o.file = nil
	_ = o.fs.Remove(o.fs.PathJoin(o.dir, o.name)) // all of it is durable
	if o.old != "" {
		_ = o.fs.Remove(o.fs.PathJoin(o.dir, o.old))
	}
}

// Crashed tells whether the process that had the queue before ended without
// closing it.
func (s *Store) Crashed() bool { return s.crashed }

// recoverOutcomes settles what an earlier process has delivered and could not
// settle before it was killed.
func (s *Store) recoverOutcomes() error {
	o := &s.outcomes
	o.fs, o.dir = s.fs, s.opts.Dir
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("list the queue's folder: %w", err)
	}
	delivered := make(map[queue.ID][]int)
	var files []string
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, outcomePrefix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil {
			continue
		}
		o.number = max(o.number, number)
		files = append(files, s.fs.PathJoin(s.opts.Dir, name))
		s.crashed = true
		s.readOutcomes(files[len(files)-1], delivered)
	}
	if err := s.applyOutcomes(delivered); err != nil {
		return err
	}
	for _, name := range files {
		_ = s.fs.Remove(name)
	}
	_ = o.begin() // without it the queue works all the same; it is tried again
	return nil
}

// readOutcomes reads one file as far as it goes.
func (s *Store) readOutcomes(path string, delivered map[queue.ID][]int) {
	f, err := s.fs.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 64<<20))
	for ; len(b) >= outcomeSize; b = b[outcomeSize:] {
		sum := outcomeSize - 4
		if crc32.ChecksumIEEE(b[:sum]) != binary.BigEndian.Uint32(b[sum:]) {
			return
		}
		id := queue.ID(b[:len(queue.ID{})])
		delivered[id] = append(delivered[id], int(binary.BigEndian.Uint16(b[len(id):])))
	}
}

// applyOutcomes writes what was delivered into the records of messages that
// are still there.
func (s *Store) applyOutcomes(delivered map[queue.ID][]int) error {
	b := s.db.NewBatch()
	defer b.Close()
	var slots []slotEntry
	var files []queue.ID
	for id, recipients := range delivered {
		sealed, err := s.get(recordKey(nil, prefixEnvelope, id))
		if err != nil || len(sealed) < envelopeHeader {
			continue // settled long ago, or not readable: then it is not delivered
		}
		if slots == nil {
			if slots, err = s.keys.slots.load(); err != nil {
				return err
			}
		}
		en, err := s.load(id, s.refOf(slots, id, binary.BigEndian.Uint64(sealed[1:])), parts{states: true})
		if err != nil {
			continue // damaged: the scan sets it aside
		}
		if s.writeOutcome(b, en, recipients) && en.fileKey != nil {
			files = append(files, id)
		}
	}
	if b.Empty() {
		return nil
	}
	if err := s.apply(b); err != nil {
		return fmt.Errorf("settle what was delivered: %w", err)
	}
	for _, id := range files {
		s.removeContent(id)
	}
	return nil
}

// refOf finds a message's key at open, as scanner.keyOf does.
func (s *Store) refOf(slots []slotEntry, id queue.ID, epochID uint64) keyRef {
	if e := s.keys.byID(epochID); e != nil {
		return e.ref
	}
	i, ok := slices.BinarySearchFunc(slots, id, func(e slotEntry, id queue.ID) int {
		return cmp.Compare(string(e.id[:]), string(id[:]))
	})
	if !ok {
		return refNone
	}
	return keyRef(slots[i].slot)
}

// writeOutcome adds to b that recipients were delivered to, and tells whether
// the message goes with that.
func (s *Store) writeOutcome(b *pebble.Batch, en *entry, recipients []int) (gone bool) {
	env := en.env
	var changed []int
	for _, i := range recipients {
		if i < len(env.Recipients) && !env.Recipients[i].State.Settled() {
			env.Recipients[i].State = queue.Delivered
			owe(&env.Recipients[i], &queue.Outcome{State: queue.Delivered})
			changed = append(changed, i)
		}
	}
	c := committer{cur: &bundle{batch: b}}
	gone = !slices.ContainsFunc(env.Recipients, func(r queue.Recipient) bool { return !r.Over() })
	if gone {
		m := message{id: env.ID, key: refNone, flags: msgStates}
		if en.fileKey != nil {
			m.flags |= msgStreamed
		}
		c.addDelete(&m, env)
		return true
	}
	for _, i := range changed {
		c.addState(en, env.ID, i, appendState(nil, s.retries.Load(), &env.Recipients[i]))
	}
	return false
}
