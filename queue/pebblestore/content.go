package pebblestore

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// A large content is a file of chunks, each sealed under the file's own key
// with its number and whether it is the last one in the nonce (the STREAM
// construction), so that chunks cannot be cut off, swapped or repeated. The
// key stands in the envelope record and nowhere else: until that is written,
// the file is noise.
//
// It is the sealed chunk that has a round length: each write then begins and
// ends with a page, and the kernel takes memory for the whole of it at once.
const (
	contentDir  = "content"
	sealedChunk = 64 << 10
	chunkSize   = sealedChunk - tagSize
)

// chunkPool holds buffers of sealedChunk octets.
type chunkPool struct{ pool sync.Pool }

func (p *chunkPool) get() *[sealedChunk]byte {
	if b, ok := p.pool.Get().(*[sealedChunk]byte); ok {
		return b
	}
	return new([sealedChunk]byte)
}

func (p *chunkPool) put(b *[sealedChunk]byte) {
	clear(b[:])
	p.pool.Put(b)
}

func chunkNonce(n uint32, last bool) (nonce [nonceSize]byte) {
	binary.BigEndian.PutUint32(nonce[7:], n)
	nonce[11] = flag(last, 1)
	return nonce
}

func (s *Store) contentPath(id queue.ID) string {
	return s.fs.PathJoin(s.contents, id.String())
}

// writeContent stores r in the content file of a message and returns its
// length once it is durable. What failed to be read is told apart from what
// failed to be written.
func (s *Store) writeContent(ctx context.Context, id queue.ID, key []byte, r io.Reader) (int64, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return 0, err
	}
	f, err := s.fs.Create(s.contentPath(id), writeCategory)
	if err != nil {
		return 0, fmt.Errorf("make a content file: %w", diskError(err))
	}
	err = ownerOnly(f)
	f = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 1 << 20, NoSyncOnClose: true})
	var size int64
	if err == nil {
		size, err = s.sealContent(ctx, f, aead, id, r)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("sync a content file: %w", diskError(err))
		}
	}
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close a content file: %w", diskError(closeErr))
	}
	if err != nil {
		return 0, err
	}
	if err := s.contentFolder.Sync(); err != nil {
		return 0, fmt.Errorf("sync the content folder: %w", diskError(err))
	}
	return size, nil
}

func (s *Store) sealContent(ctx context.Context, f io.Writer, aead cipher.AEAD, id queue.ID, r io.Reader) (size int64, err error) {
	buf := s.chunks.get()
	defer s.chunks.put(buf)
	kept := 0 // octets of the next chunk that are read already
	for n := uint32(0); ; n++ {
		// One octet more than a chunk tells whether it is the last one.
		got, err := io.ReadFull(r, buf[kept:chunkSize+1])
		got += kept
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return 0, fmt.Errorf("read the content: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		ahead := buf[chunkSize]
		plain := min(got, chunkSize)
		if err := s.space.take(int64(plain)); err != nil {
			return 0, err
		}
		nonce := chunkNonce(n, last)
		if _, err := f.Write(aead.Seal(buf[:0], nonce[:], buf[:plain], id[:])); err != nil {
			return 0, fmt.Errorf("write a content file: %w", diskError(err))
		}
		size += int64(plain)
		if last {
			return size, nil
		}
		buf[0], kept = ahead, 1
	}
}

// removeContent unlinks a content file. One that stays behind is removed at
// the next open, and nobody can read it.
func (s *Store) removeContent(id queue.ID) {
	_ = s.fs.Remove(s.contentPath(id))
}

// content is a claimed message's content.
func (s *Store) content(en *entry) queue.Content {
	if en.fileKey == nil {
		return queue.Content{Head: en.head, Size: en.env.Size}
	}
	id, key, size := en.env.ID, en.fileKey, en.env.Size
	return queue.Content{Size: size, Open: func() (io.ReadCloser, error) { return s.openContent(id, key, size) }}
}

// contentReader reads a content file. It never gives out an octet that is not authentic.
type contentReader struct {
	s      *Store
	id     queue.ID
	f      vfs.File
	aead   cipher.AEAD
	buf    *[sealedChunk]byte
	plain  []byte // read and not yet given out
	chunk  uint32
	chunks uint32
	left   int64 // octets in chunks to come
	err    error
}

func (s *Store) openContent(id queue.ID, key []byte, size int64) (io.ReadCloser, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.contentPath(id), vfs.SequentialReadsOption)
	if shortage(err) {
		return nil, fmt.Errorf("open a content file: %w", err)
	}
	if err != nil {
		s.damaged(id, err)
		return nil, fmt.Errorf("open a content file: %w: %w", queue.ErrDamaged, err)
	}
	return &contentReader{
		s: s, id: id, f: f, aead: aead, buf: s.chunks.get(), left: size,
		chunks: uint32(max(1, (size+chunkSize-1)/chunkSize)),
	}, nil
}

func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.fill()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	return n, nil
}

func (r *contentReader) fill() {
	if r.chunk == r.chunks {
		r.err = io.EOF
		return
	}
	want := min(r.left, chunkSize)
	sealed := r.buf[:want+tagSize]
	if _, err := io.ReadFull(r.f, sealed); err != nil {
		r.fail(fmt.Errorf("read a content file: %w", err))
		return
	}
	nonce := chunkNonce(r.chunk, r.chunk == r.chunks-1)
	plain, err := r.aead.Open(sealed[:0], nonce[:], sealed, r.id[:])
	if err != nil {
		r.fail(errors.New("a chunk does not match its checksum"))
		return
	}
	r.plain = plain
	r.left -= want
	r.chunk++
}

func (r *contentReader) fail(err error) {
	r.err = fmt.Errorf("%w: %w", queue.ErrDamaged, err)
	r.s.damaged(r.id, err)
}

func (r *contentReader) Close() error {
	if r.buf == nil {
		return nil
	}
	r.s.chunks.put(r.buf)
	r.buf, r.plain, r.err = nil, nil, io.ErrClosedPipe
	return r.f.Close()
}

// damaged sets a message aside by its ID.
func (s *Store) damaged(id queue.ID, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mi, ok := s.index.byID[id]; ok {
		s.setAside(mi, cause)
	}
}

// streams knows the contents that are being written, so that the clean-up at
// open leaves them alone.
type streams struct {
	mu  sync.Mutex
	ids map[queue.ID]bool
}

func (st *streams) begin(id queue.ID) (done func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ids[id] = true
	return func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		delete(st.ids, id)
	}
}

func (st *streams) has(id queue.ID) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ids[id]
}
