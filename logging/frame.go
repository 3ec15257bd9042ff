package logging

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// The encrypted files of the log are a header and frames. A frame is
//
//	length  4 octets, big-endian: of the ciphertext with its tag
//	nonce   12 octets, random
//	ciphertext
//	length  again, so that the file can be read from its end
//
// under AES-256-GCM with a key of the file's own. What is authenticated beside
// it is the header, where the frame begins, and whether it is the last one, so
// that no frame can be moved, repeated, taken from another file or cut off. A
// sealed file must end with its last frame; a live one has none yet, and a
// piece of a frame at its end is what a crash left. The plaintext is one octet,
// packedNot or packedZstd, and whole lines.

const (
	headerSize   = 36
	frameExtra   = 4 + nonceSize + 4
	nonceSize    = 12
	tagSize      = 16
	maxFrame     = 8 << 20 // octets of ciphertext
	maxPiece     = 6 << 20 // octets of lines in a frame
	packedNot    = 0
	packedZstd   = 1
	sealedMagic  = "tacet-sealed-01\n"
	runningMagic = "tacet-live-0001\n"
)

var (
	// errNoFrames is of a file that is not in frames.
	errNoFrames = errors.New("not an encrypted file of the log")

	// errDamaged is of a file in frames that was changed, cut or mixed up.
	errDamaged = errors.New("it does not verify: changed, cut off, or under another key")
)

// frameHeader is the beginning of a file in frames.
type frameHeader struct {
	sealed  bool // or live
	day     day
	key     keyID
	merged  int     // of a sealed file: the parts set aside up to this number are in it
	removed removal // of a sealed file: fields it no longer has
}

func (h frameHeader) append(dst []byte) []byte {
	magic := runningMagic
	if h.sealed {
		magic = sealedMagic
	}
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.day))
	dst = append(dst, h.key[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.merged))
	return binary.BigEndian.AppendUint32(dst, uint32(h.removed))
}

func parseHeader(b []byte) (h frameHeader, err error) {
	if len(b) < headerSize {
		return h, errNoFrames
	}
	switch string(b[:16]) {
	case sealedMagic:
		h.sealed = true
	case runningMagic:
	default:
		return h, errNoFrames
	}
	h.day = day(binary.BigEndian.Uint32(b[16:]))
	copy(h.key[:], b[20:28])
	h.merged = int(binary.BigEndian.Uint32(b[28:]))
	h.removed = removal(binary.BigEndian.Uint32(b[32:]))
	if h.merged > 1<<30 {
		return h, errDamaged
	}
	return h, nil
}

func readHeader(f io.ReaderAt) (frameHeader, error) {
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return frameHeader{}, err
	} else if n < headerSize {
		return frameHeader{}, errNoFrames
	}
	return parseHeader(b)
}

// box seals and opens the frames of one file.
type box struct {
	aead   cipher.AEAD
	zip    *zstd.Decoder
	header []byte
}

func newBox(key []byte, h frameHeader) (*box, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPiece))
	if err != nil {
		return nil, err
	}
	return &box{aead, zip, h.append(nil)}, nil
}

// beside is what is authenticated with a frame.
func (b *box) beside(offset int64, last bool) []byte {
	data := make([]byte, 0, headerSize+9)
	data = append(data, b.header...)
	data = binary.BigEndian.AppendUint64(data, uint64(offset))
	if last {
		return append(data, 1)
	}
	return append(data, 0)
}

// appendFrame appends the frame of a plaintext that begins at the offset of the file.
func (b *box) appendFrame(dst, plain []byte, offset int64, last bool) []byte {
	size := uint32(len(plain) + tagSize)
	dst = binary.BigEndian.AppendUint32(dst, size)
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails
	dst = append(dst, nonce[:]...)
	dst = b.aead.Seal(dst, nonce[:], plain, b.beside(offset, last))
	return binary.BigEndian.AppendUint32(dst, size)
}

// open gives the lines of a frame, which is without its lengths.
func (b *box) open(frame []byte, offset int64, last bool) ([]byte, error) {
	plain, err := b.aead.Open(nil, frame[:nonceSize], frame[nonceSize:], b.beside(offset, last))
	if err != nil || len(plain) == 0 {
		return nil, errDamaged
	}
	switch lines := plain[1:]; plain[0] {
	case packedNot:
		return lines, nil
	case packedZstd:
		// What was authenticated is of this program's making, and is held to its bounds all the same.
		if lines, err = b.zip.DecodeAll(lines, nil); err != nil {
			return nil, errDamaged
		}
		return lines, nil
	}
	return nil, errDamaged
}

// frameSource reads the frames of a file from the front.
type frameSource struct {
	p    *openPart
	at   int64
	size int64
}

// next implements source. The piece of a frame at the end of a live file ends it.
func (s *frameSource) next() (func() ([]byte, error), int64, error) {
	if s.at >= s.size {
		info, err := s.p.file.Stat()
		if err != nil {
			return nil, s.at, err
		}
		s.size = info.Size()
	}
	if s.at == s.size && (s.at > headerSize || !s.p.header.sealed) {
		return nil, s.at, io.EOF
	}
	frame, end, err := readFrame(s.p.file, s.at, s.size)
	if err != nil {
		if errors.Is(err, errDamaged) && !s.p.header.sealed && end > s.size {
			err = io.EOF
		}
		return nil, s.at, err
	}
	offset, last, box := s.at, s.p.header.sealed && end == s.size, s.p.box
	s.at = end
	return func() ([]byte, error) { return box.open(frame, offset, last) }, offset, nil
}

func (s *frameSource) position() int64 { return s.at }

// readFrame reads the frame at the offset, without its lengths, and tells where it
// ends, or would: an end beyond the file's is that of a piece.
func readFrame(f io.ReaderAt, at, size int64) (frame []byte, end int64, err error) {
	if size-at < 4 {
		return nil, size + 1, errDamaged
	}
	var head [4]byte
	if _, err := f.ReadAt(head[:], at); err != nil {
		return nil, at, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < tagSize+1 || n > maxFrame {
		return nil, at, errDamaged
	}
	if end = at + n + frameExtra; end > size {
		return nil, end, errDamaged
	}
	frame = make([]byte, n+nonceSize+4)
	if _, err := f.ReadAt(frame, at+4); err != nil {
		return nil, at, err
	}
	if int64(binary.BigEndian.Uint32(frame[n+nonceSize:])) != n {
		return nil, at, errDamaged
	}
	return frame[:n+nonceSize], end, nil
}

// framesEnd finds where the whole frames of a file end.
func framesEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	at := int64(headerSize)
	var head, tail [4]byte
	for at+frameExtra <= info.Size() {
		if _, err := f.ReadAt(head[:], at); err != nil {
			return 0, err
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		end := at + n + frameExtra
		if n < tagSize+1 || n > maxFrame || end > info.Size() {
			break
		}
		if _, err := f.ReadAt(tail[:], end-4); err != nil {
			return 0, err
		}
		if head != tail {
			break
		}
		at = end
	}
	return at, nil
}

// frameBefore finds where the frame begins that ends at the offset.
func frameBefore(f io.ReaderAt, end int64) (int64, error) {
	var tail [4]byte
	if _, err := f.ReadAt(tail[:], end-4); err != nil {
		return 0, err
	}
	at := end - int64(binary.BigEndian.Uint32(tail[:])) - frameExtra
	if at < headerSize {
		return 0, errDamaged
	}
	return at, nil
}

// frameWriter writes a sealed file.
type frameWriter struct {
	to     io.Writer
	box    *box
	zip    *zstd.Encoder
	at     int64
	lines  []byte
	packed []byte
	frame  []byte
}

func newFrameWriter(to io.Writer, b *box) (*frameWriter, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	n, err := to.Write(b.header)
	return &frameWriter{to: to, box: b, zip: zip, at: int64(n)}, err
}

// line takes one line, without its newline.
func (w *frameWriter) line(raw []byte) error {
	w.lines = append(append(w.lines, raw...), '\n')
	if len(w.lines) < pieceSize {
		return nil
	}
	return w.flush(false)
}

func (w *frameWriter) flush(last bool) error {
	w.packed = append(w.packed[:0], packedZstd)
	w.packed = w.zip.EncodeAll(w.lines, w.packed)
	w.frame = w.box.appendFrame(w.frame[:0], w.packed, w.at, last)
	n, err := w.to.Write(w.frame)
	w.at += int64(n)
	w.lines = w.lines[:0]
	return err
}

// end writes the last frame, without which the file is damaged.
func (w *frameWriter) end() error {
	defer w.zip.Close()
	return w.flush(true)
}
