package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"
	"os"
)

// A spool keeps what does not fit into memory of a message while it is looked
// at: in a file that has no name any more, encrypted under a key that is never
// anywhere but in memory. Nothing of it outlives the process, or can be read on the disk.
type spool struct {
	file *os.File
	aead cipher.AEAD
	size int64 // octets written, before encryption
}

// spoolChunk is how many octets are sealed together.
const spoolChunk = 64 << 10

// newSpool writes all of r to a new spool in dir. An error is either r's own,
// as it was given, or about the disk and then in disk.
func newSpool(dir string, r io.Reader) (s *spool, from, disk error) {
	file, err := os.CreateTemp(dir, ".content-*")
	if err != nil {
		return nil, nil, spoolError("create", err)
	}
	s = &spool{file: file}
	defer func() {
		if from != nil || disk != nil {
			_ = file.Close()
			s = nil
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, nil, spoolError("unlink", err)
	}
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	clear(key[:])
	if err != nil {
		return nil, nil, spoolError("encrypt", err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return nil, nil, spoolError("encrypt", err)
	}
	buf := make([]byte, spoolChunk, spoolChunk+s.aead.Overhead())
	for n := uint64(0); ; n++ {
		got, err := readUpTo(r, buf[:spoolChunk])
		if err != nil && err != io.EOF {
			return nil, err, nil
		}
		s.size += int64(len(got))
		if _, werr := file.Write(s.aead.Seal(got[:0], spoolNonce(n), got, nil)); werr != nil {
			return nil, nil, spoolError("write", werr)
		}
		if err == io.EOF {
			return s, nil, nil
		}
	}
}

// spoolNonce numbers the chunks. The key is one spool's own.
func spoolNonce(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), n) }

// reader reads the spool from its start.
func (s *spool) reader() io.Reader { return &spoolReader{s: s} }

// close gives the file back.
func (s *spool) close() {
	if s != nil {
		_ = s.file.Close()
	}
}

type spoolReader struct {
	s    *spool
	next uint64 // chunk
	buf  []byte // sealed, then opened in place
	left []byte // of buf, yet to be given
}

func (r *spoolReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		at := int64(r.next) * spoolChunk
		if at >= r.s.size {
			return 0, io.EOF
		}
		sealed := int(min(spoolChunk, r.s.size-at)) + r.s.aead.Overhead()
		if r.buf == nil {
			r.buf = make([]byte, spoolChunk+r.s.aead.Overhead())
		}
		offset := int64(r.next) * int64(spoolChunk+r.s.aead.Overhead())
		if _, err := r.s.file.ReadAt(r.buf[:sealed], offset); err != nil {
			return 0, spoolError("read", err)
		}
		opened, err := r.s.aead.Open(r.buf[:0], spoolNonce(r.next), r.buf[:sealed], nil)
		if err != nil {
			return 0, errSpoolDamaged
		}
		r.left = opened
		r.next++
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
