package pebblestore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// A log is a row of records, each one committed batch. A record is one chunk
// or several, none of which crosses a border of 32 KiB. Of a chunk that does
// not match its checksum the octets are taken all the same, as doubted: each of
// our records in it shows by itself whether it is authentic.
const (
	logBlock  = 32 << 10
	logHeader = 11 // checksum, length, kind, number of the log
	syncLen   = 8  // more in the header of the newer kinds: how far the log is synced
	batchHead = batchrepr.HeaderLen
)

// The kinds of chunks: whole records, or the first, a middle or the last part of one.
const (
	chunkFull = iota
	chunkFirst
	chunkMiddle
	chunkLast
)

// chunk is one part of a record.
type chunk struct {
	kind    int
	payload []byte
	end     int    // where it ends in the log
	synced  uint64 // the log was durable up to there when it was written, at least
	doubted bool
}

// logRecord is one record: a batch, or what is left of it.
type logRecord struct {
	batch   []byte
	doubted bool
	header  bool // it begins where the batch begins
	seq     uint64
	count   int // operations that the batch had; 0: not known
}

// parseChunk reads the chunk at a place of a log. It is well formed if its header is
// one of this log; what it holds is doubted if its checksum does not match.
func parseChunk(b []byte, at int, number uint32) (c chunk, wellFormed bool) {
	end := min((at/logBlock+1)*logBlock, len(b))
	if at+logHeader > end {
		return chunk{}, false
	}
	h := b[at:end]
	kind, header := int(h[6]), logHeader
	switch {
	case kind >= 5 && kind <= 8:
		kind -= 5
	case kind >= 9 && kind <= 12:
		kind, header = kind-9, logHeader+syncLen
	default:
		return chunk{}, false
	}
	size := header + int(binary.LittleEndian.Uint16(h[4:]))
	cut := size > len(h) && end == len(b) && header <= len(h) // by the end of the file
	if cut {
		size = len(h)
	}
	if binary.LittleEndian.Uint32(h[7:]) != number || size > len(h) {
		return chunk{}, false
	}
	c = chunk{kind: kind, payload: h[header:size], end: at + size}
	if header > logHeader {
		c.synced = binary.LittleEndian.Uint64(h[logHeader:])
	}
	c.doubted = cut || binary.LittleEndian.Uint32(h) != maskedSum(crc32.Checksum(h[6:size], castagnoli))
	return c, true
}

// readLog reads what can be read of a log, in its order.
func readLog(b []byte, number uint32, yield func(logRecord) error) error {
	var a assembler
	for at := 0; at < len(b); {
		if rest := logBlock - at%logBlock; rest < logHeader {
			at += rest
			continue
		}
		c, wellFormed := parseChunk(b, at, number)
		if !wellFormed || c.doubted {
			next := nextChunk(b, at+1, number)
			if next == len(b) && !wellFormed {
				break // the end, or all that follows is damaged
			}
			if wellFormed && c.end <= next {
				next = c.end
			} else {
				// It is not known what stands here.
				c = chunk{kind: chunkMiddle, doubted: true, payload: b[at:min(next, len(b))]}
				if padding(b[at:next], at) {
					at = next
					continue
				}
			}
			c.end = next
		}
		at = c.end
		if err := a.add(c, yield); err != nil {
			return err
		}
	}
	return a.cut(yield)
}

// padding tells whether these are the zeros that end a block of a log.
func padding(b []byte, at int) bool {
	return len(b) <= logHeader+syncLen && (at+len(b))%logBlock == 0 && !slices.ContainsFunc(b, func(o byte) bool { return o != 0 })
}

// nextChunk finds the next sound chunk of this log.
func nextChunk(b []byte, from int, number uint32) int {
	const before = 7 // octets of a header before the number of its log
	mark := binary.LittleEndian.AppendUint32(nil, number)
	for at := from; at+logHeader <= len(b); at++ {
		skip := bytes.Index(b[at+before:], mark)
		if skip < 0 {
			break
		}
		at += skip
		if c, ok := parseChunk(b, at, number); ok && !c.doubted {
			return at
		}
	}
	return len(b)
}

// logDamaged tells whether a part of the log cannot be read that had become
// durable: a later one says so. What is missing at its end may never have been.
func logDamaged(b []byte, number uint32) bool {
	unsound := len(b)
	for at := 0; at < len(b); {
		if rest := logBlock - at%logBlock; rest < logHeader {
			at += rest
			continue
		}
		c, ok := parseChunk(b, at, number)
		if !ok || c.doubted {
			next := nextChunk(b, at+1, number)
			if !padding(b[at:next], at) {
				unsound = min(unsound, at)
			}
			at = next
			continue
		}
		if c.synced > uint64(unsound) {
			return true
		}
		at = c.end
	}
	return false
}

// assembler puts records together from their chunks.
type assembler struct {
	open bool
	now  logRecord
}

// add takes the next chunk. A record whose other chunks are missing is doubted.
func (a *assembler) add(c chunk, yield func(logRecord) error) error {
	begins := c.kind == chunkFull || c.kind == chunkFirst
	if begins {
		if err := a.cut(yield); err != nil {
			return err
		}
	}
	if !a.open {
		a.open, a.now = true, logRecord{header: begins, doubted: !begins}
	}
	a.now.batch = append(a.now.batch, c.payload...)
	a.now.doubted = a.now.doubted || c.doubted
	if c.kind == chunkFirst || c.kind == chunkMiddle {
		return nil
	}
	a.open = false
	return a.yield(yield)
}

// cut ends a record that has no last chunk.
func (a *assembler) cut(yield func(logRecord) error) error {
	if !a.open {
		return nil
	}
	a.open, a.now.doubted = false, true
	return a.yield(yield)
}

// yield gives out the record with what its header tells.
func (a *assembler) yield(yield func(logRecord) error) error {
	if h, ok := batchrepr.ReadHeader(a.now.batch); ok && a.now.header {
		a.now.seq, a.now.count = uint64(h.SeqNum), int(h.Count)
	}
	return yield(a.now)
}

// operations reads the operations of a record. Of a doubted one it finds those
// that look like ours, wherever they are.
func (r *logRecord) operations(yield func(*operation) error) error {
	b := r.batch
	if r.header && len(b) >= batchHead {
		b = b[batchHead:]
	}
	seq, sound := r.seq, r.header
	for len(b) > 0 {
		op, size := readOperation(b)
		if size == 0 || r.doubted && !ours(op.key) {
			if !r.doubted {
				break // it matches its checksum, and is not of a kind that we write
			}
			b, sound = b[1:], false
			continue
		}
		op.seq, op.doubted = seq, r.doubted
		seq++
		b = b[size:]
		if r.doubted && sound && len(b) > 0 {
			next, size := readOperation(b)
			op.between = size > 0 && ours(next.key)
		}
		sound = true
		if err := yield(&op); err != nil {
			return err
		}
	}
	return nil
}

// ours tells whether the name is that of a message's record.
func ours(key []byte) bool {
	switch len(key) {
	case recordKeySize:
		return key[0] == prefixEnvelope || key[0] == prefixContent
	case stateKeySize:
		return key[0] == prefixState
	}
	return false
}

// readOperation reads the operation that b begins with. Its size is 0 if there is none.
func readOperation(b []byte) (op operation, size int) {
	op.kind = pebble.InternalKeyKind(b[0])
	rest := b[1:]
	text := func() []byte {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			rest = nil
			return nil
		}
		part := rest[w : w+int(n)]
		rest = rest[w+int(n):]
		return part
	}
	if op.key = text(); op.key == nil {
		return operation{}, 0
	}
	switch {
	case op.deletion() && op.kind != pebble.InternalKeyKindDeleteSized:
	case op.kind == pebble.InternalKeyKindSet, op.kind == pebble.InternalKeyKindRangeDelete:
		if op.value = text(); op.value == nil {
			return operation{}, 0
		}
	default:
		return operation{}, 0
	}
	return op, len(b) - len(rest)
}

// logChain reads logs one after the other, and knows by the numbers of their
// operations what is missing.
type logChain struct {
	s     *Store
	first uint64 // number of the first operation; 0: not known
	next  uint64 // number of the next one

	handled    int  // operations that doubted records have given since
	lost       int  // operations that are missing
	tail       int  // and those that the last record, a doubted one, should have
	border     int  // operations missing between this log and the one before
	damagedEnd bool // the log ended in a doubted record
}

// read reads one log.
func (c *logChain) read(number uint64, yield func(*operation) error) error {
	b, err := readFile(c.s.fs, c.s.logPath(number))
	if err != nil {
		return err
	}
	begins := true
	c.border = 0
	return readLog(b, uint32(number), func(r logRecord) error {
		c.damagedEnd = r.doubted
		if r.doubted {
			return c.doubted(&r, yield)
		}
		if r.count == 0 {
			return nil // nothing but a note of the engine
		}
		if c.first == 0 {
			c.first = r.seq
		}
		missing := 0
		if c.next > 0 && r.seq > c.next {
			missing = max(int(r.seq-c.next)-c.handled, 0)
		}
		c.lost += missing
		if begins {
			c.border = missing
		}
		begins = false
		c.next, c.handled, c.tail = r.seq+uint64(r.count), 0, 0
		return r.operations(yield)
	})
}

// doubted reads a record that does not match its checksum.
func (c *logChain) doubted(r *logRecord, yield func(*operation) error) error {
	if c.next > 0 || r.seq > 1<<56 {
		r.seq = c.next + uint64(c.handled) // its own may be what is damaged
	}
	before := c.handled
	err := r.operations(func(op *operation) error {
		c.handled++
		return yield(op)
	})
	if c.tail = 0; r.count < maxGroupBytes {
		c.tail = max(r.count-(c.handled-before), 0)
	}
	return err
}

// last is the number of the newest operation that was read, 0 if there was none.
func (c *logChain) last() uint64 {
	if c.next == 0 {
		return 0
	}
	return c.next - 1 + uint64(c.handled)
}
