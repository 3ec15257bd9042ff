package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
)

// operation is one entry of the engine, as a table or a log has it.
type operation struct {
	kind       pebble.InternalKeyKind
	key, value []byte // of a range deletion: where it begins and ends
	seq        uint64
	doubted    bool // its checksum does not match: only what is authentic counts
	between    bool // yet it stands where one would, and another follows
}

func (o *operation) set() bool {
	return o.kind == pebble.InternalKeyKindSet || o.kind == pebble.InternalKeyKindSetWithDelete
}

func (o *operation) deletion() bool {
	switch o.kind {
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindDeleteSized, pebble.InternalKeyKindSingleDelete:
		return true
	}
	return false
}

// A table is blocks one after the other, each followed by a trailer: one octet
// that tells how it is compressed, and a checksum. Where they end is told by an
// index at the end of the file, which may be what is damaged; so it is not
// needed here: a block ends where its checksum does.
const (
	blockTrailer = 5
	largestBlock = 2 << 20 // of our tables: the largest content is queue.InMemory
	footerMax    = 128     // the engine's footers are some 60 octets long
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedSum is a checksum as the engine stores it.
func maskedSum(sum uint32) uint32 { return (sum>>15 | sum<<17) + 0xa282ead8 }

// columns are the kinds of columns that a block of records, and one of range
// deletions, begin with. Each block has four octets before that.
var (
	recordColumns = []colblk.DataType{
		colblk.DataTypePrefixBytes, colblk.DataTypeBytes, // the name
		colblk.DataTypeUint, colblk.DataTypeBool, colblk.DataTypeBytes, colblk.DataTypeBool, colblk.DataTypeBool,
	}
	spanColumns = []colblk.DataType{
		colblk.DataTypeBytes, colblk.DataTypeUint, // where spans begin
		colblk.DataTypeUint, colblk.DataTypeBytes, colblk.DataTypeBytes,
	}
)

// hasColumns tells whether b begins as a block with such columns does.
func hasColumns(b []byte, columns []colblk.DataType) bool {
	const header, base, each = 4, 7, 5
	if len(b) < header+base+each*len(columns) || b[header] != byte(colblk.Version1) ||
		int(binary.LittleEndian.Uint16(b[header+1:])) != len(columns) {
		return false
	}
	for i, c := range columns {
		if b[header+base+each*i] != byte(c) {
			return false
		}
	}
	return true
}

// tableReader reads what can be read of a table, whatever is damaged of it.
type tableReader struct {
	schema  colblk.KeySchema
	aligned []uint64 // the block at hand
}

func newTableReader() *tableReader {
	return &tableReader{schema: colblk.DefaultKeySchema(pebble.DefaultComparer, 16)}
}

// read calls yield for each operation in b, and returns whether parts of it that may
// have held some could not be read. What yield gets is valid until it returns.
func (r *tableReader) read(b []byte, yield func(*operation) error) (lossy bool, err error) {
	lossy = len(b) == 0
	for at := 0; at < len(b); {
		size := blockSize(b[at:])
		if size == 0 {
			if len(b)-at <= footerMax {
				break
			}
			// Blocks of other kinds stand after all those that matter.
			records := hasColumns(b[at:], recordColumns)
			lossy = lossy || records || hasColumns(b[at:], spanColumns) || at == 0
			next := nextBlock(b, at+1)
			lossy = lossy || next < len(b)
			if records {
				if err := r.doubted(b[at:next], yield); err != nil {
					return lossy, err
				}
			}
			at = next
			continue
		}
		if err := r.block(b[at:at+size], yield); err != nil {
			if !errors.Is(err, errBlock) {
				return lossy, err
			}
			lossy = true
		}
		at += size + blockTrailer
	}
	return lossy, nil
}

// blockSize is the length of the block that b begins with, without its
// trailer; 0 if no checksum ends it.
func blockSize(b []byte) int {
	sum := uint32(0)
	end := max(min(len(b)-4, largestBlock), 0)
	for at := 0; at < end; {
		// 0 tells, in a trailer, that the block is not compressed: ours never are.
		zero := bytes.IndexByte(b[at:end], 0)
		if zero < 0 {
			break
		}
		zero += at
		sum = crc32.Update(sum, castagnoli, b[at:zero+1])
		if binary.LittleEndian.Uint32(b[zero+1:]) == maskedSum(sum) {
			return zero
		}
		at = zero + 1
	}
	return 0
}

// nextBlock finds where after the damage the next block that matters begins.
func nextBlock(b []byte, from int) int {
	for at := from; at < len(b); at++ {
		if (hasColumns(b[at:], recordColumns) || hasColumns(b[at:], spanColumns)) && blockSize(b[at:]) > 0 {
			return at
		}
	}
	return len(b)
}

// errBlock says that a block that matters does not have the expected form.
var errBlock = errors.New("a block of a table has an unknown form")

func (r *tableReader) block(b []byte, yield func(*operation) error) (err error) {
	records, spans := hasColumns(b, recordColumns), hasColumns(b, spanColumns)
	if !records && !spans {
		return nil // the index, or what the engine notes about the table
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errBlock, v)
		}
	}()
	data := r.align(b)
	if spans {
		return readSpans(data, yield)
	}
	it, err := r.rows(data)
	if err != nil {
		return err
	}
	for kv := it.First(); kv != nil; kv = it.Next() {
		op := operation{kind: kv.Kind(), key: kv.K.UserKey, value: kv.InPlaceValue(), seq: uint64(kv.SeqNum())}
		if err := yield(&op); err != nil {
			return err
		}
	}
	return nil
}

// align copies a block to where the decoder can read it.
func (r *tableReader) align(b []byte) []byte {
	words := len(b)/8 + 1
	if cap(r.aligned) < words {
		r.aligned = make([]uint64, words)
	}
	data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(r.aligned[:words]))), words*8)[:len(b)]
	copy(data, b)
	return data
}

func (r *tableReader) rows(data []byte) (*colblk.DataBlockIter, error) {
	var d colblk.DataBlockDecoder
	d.Init(&r.schema, data)
	it := new(colblk.DataBlockIter)
	it.InitOnce(&r.schema, pebble.DefaultComparer, nil)
	if err := it.Init(&d, block.NoTransforms); err != nil {
		return nil, fmt.Errorf("%w: %w", errBlock, err)
	}
	return it, nil
}

// recordsEnd is where a block of records ends by what it says of its last
// column; all of b if that makes no sense. The decoder wants the end exactly.
func recordsEnd(b []byte) (end int) {
	end = len(b)
	defer func() { _ = recover() }()
	const header, base, each = 4, 7, 5
	h := colblk.DecodeHeader(b[header:])
	at := binary.LittleEndian.Uint32(b[header+base+each*(len(recordColumns)-1)+1:])
	_, last := colblk.DecodeBitmap(b, at, int(h.Rows))
	if padded := int(last) + 1; padded <= len(b) {
		end = padded
	}
	return end
}

// doubted reads what a damaged block of records still has in its form: from its
// beginning, and where the damage ends that, from its end. Each record in it
// shows by itself whether it is authentic. What follows the block may be in b.
func (r *tableReader) doubted(b []byte, yield func(*operation) error) error {
	data := r.align(b[:min(len(b), largestBlock)])
	data = data[:recordsEnd(data)]
	whole, err := r.walk(data, false, yield)
	if !whole && err == nil {
		_, err = r.walk(data, true, yield)
	}
	return err
}

// walk reads a damaged block in one direction, as far as it goes. An error is yield's.
func (r *tableReader) walk(data []byte, backward bool, yield func(*operation) error) (whole bool, err error) {
	ours := true // it is not yield that panics
	defer func() {
		if v := recover(); v != nil && !ours {
			panic(v)
		}
	}()
	it, err := r.rows(data)
	if err != nil {
		return false, nil
	}
	next, begin := it.Next, it.First
	if backward {
		next, begin = it.Prev, it.Last
	}
	for kv := begin(); kv != nil; kv = next() {
		op := operation{kind: kv.Kind(), key: kv.K.UserKey, value: kv.InPlaceValue(), seq: uint64(kv.SeqNum()), doubted: true}
		ours = false
		if err := yield(&op); err != nil {
			return false, err
		}
		ours = true
	}
	return true, nil
}

// readSpans reads a block of range deletions.
func readSpans(b []byte, yield func(*operation) error) error {
	bounds := int(binary.LittleEndian.Uint32(b))
	d := colblk.DecodeBlock(b, 4)
	keys := colblk.DecodeColumn(&d, 0, bounds, colblk.DataTypeBytes, colblk.DecodeRawBytes)
	first := colblk.DecodeColumn(&d, 1, bounds, colblk.DataTypeUint, colblk.DecodeUnsafeUints)
	trailers := d.Uints(2)
	for i := range bounds - 1 {
		for row := first.At(i); row < first.At(i+1); row++ {
			trailer := trailers.At(int(row))
			op := operation{
				kind: pebble.InternalKeyKind(trailer), seq: trailer >> 8,
				key: bytes.Clone(keys.At(i)), value: bytes.Clone(keys.At(i + 1)),
			}
			if err := yield(&op); err != nil {
				return err
			}
		}
	}
	return nil
}
