package pebblestore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// synced is a small file that tells how far the log is durable. It is written
// after each sync of the log, and not synced itself: so it never tells too
// much, and after the end of the process, or some seconds of rest, it tells
// all. What is missing from the log by that was lost, and was not just never written.
type synced struct {
	fs   vfs.FS
	path string
	file vfs.File // nil: nothing is written, for the disk took none
	buf  [syncedSize]byte
}

const (
	syncedName = "synced"
	syncedSize = 8 + 4 // number of the newest operation, checksum
)

func (y *synced) init(fs vfs.FS, dir string) { y.fs, y.path = fs, fs.PathJoin(dir, syncedName) }

// read returns the number of the newest operation that was durable; 0 if that is not known.
func (y *synced) read() uint64 {
	b, err := readFile(y.fs, y.path)
	if err != nil || len(b) != syncedSize || crc32.ChecksumIEEE(b[:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// begin makes the file ready to be written. Without it the queue works all the same.
func (y *synced) begin() {
	f, err := y.fs.OpenReadWrite(y.path, writeCategory)
	if err != nil {
		return
	}
	if err := ownerOnly(f); err != nil {
		_ = f.Close()
		return
	}
	y.file = f
}

// advance tells that the batch is durable. Only the committer calls it.
func (y *synced) advance(b *pebble.Batch) {
	if y.file == nil || b.Count() == 0 {
		return
	}
	binary.LittleEndian.PutUint64(y.buf[:], uint64(b.SeqNum())+uint64(b.Count())-1)
	binary.LittleEndian.PutUint32(y.buf[8:], crc32.ChecksumIEEE(y.buf[:8]))
	if _, err := y.file.WriteAt(y.buf[:], 0); err != nil {
		y.end()
	}
}

// end closes the file. One that tells less than is so does no harm.
func (y *synced) end() {
	if y.file != nil {
		_ = errors.Join(y.file.Sync(), y.file.Close())
		y.file = nil
	}
}
