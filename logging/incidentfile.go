package logging

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Exchange is one line of a dialogue that an incident has kept.
type Exchange struct {
	Time    time.Time `json:"time"`
	Session uint64    `json:"session"`
	Leg     string    `json:"leg"` // "in": with a client; "out": with a next hop
	Peer    string    `json:"peer"`
	By      string    `json:"by"` // "peer", "relay", or "aside" for a remark
	Text    string    `json:"text,omitempty"`
	Content []byte    `json:"content,omitempty"` // only with content
}

// incident is an open incident and its file: frames of a length and a sealed
// Exchange, whose nonce is its number. The key is never written anywhere, so
// that there is nothing of it to destroy on a disk, in a copy or in a backup.
type incident struct {
	about  Incident // guarded by mu where it changes
	target Target
	until  time.Time // the deadline by the monotonic clock

	mu   sync.Mutex
	file *os.File
	path string
	key  [32]byte
	aead cipher.AEAD // nil: destroyed
}

func (in *incident) create(dir string) error {
	if _, err := rand.Read(in.key[:]); err != nil {
		return err
	}
	block, err := aes.NewCipher(in.key[:])
	if err != nil {
		return err
	}
	if in.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	in.path = filepath.Join(dir, in.about.ID+".sealed")
	in.file, err = os.OpenFile(in.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

func (in *incident) describe() Incident {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.about
}

func frameNonce(n int) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[4:], uint64(n))
	return nonce
}

// write keeps one line. What does not fit any more, or cannot be written, ends
// the recording for good.
func (in *incident) write(e *Exchange) {
	plain, err := json.Marshal(e)
	if err != nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.aead == nil || in.about.Full {
		return
	}
	frame := make([]byte, 4, 4+len(plain)+in.aead.Overhead())
	binary.BigEndian.PutUint32(frame, uint32(len(plain)+in.aead.Overhead()))
	if in.about.Octets+int64(cap(frame)) > MaxIncident {
		in.about.Full = true
		return
	}
	frame = in.aead.Seal(frame, frameNonce(in.about.Lines), plain, []byte(in.about.ID))
	clear(plain)
	if _, err := in.file.WriteAt(frame, in.about.Octets); err != nil {
		in.about.Full = true
		return
	}
	in.about.Octets += int64(len(frame))
	in.about.Lines++
}

// destroy ends the incident: first the key, then the file. What the cipher has
// made of the key is left to the garbage collector: it never leaves the memory
// of this process either.
func (in *incident) destroy() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.key[:])
	in.aead = nil
	in.file.Close()
	if err := os.Remove(in.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(in.path))
}

// Show gives what an open incident has kept so far, in the order it was said.
// It ends with [ErrNoIncident] if the incident ends meanwhile.
func (all *Incidents) Show(id string) iter.Seq2[Exchange, error] {
	return func(yield func(Exchange, error) bool) {
		in, err := all.find(id)
		if err != nil {
			yield(Exchange{}, err)
			return
		}
		about := in.describe()
		frames := bufio.NewReaderSize(io.NewSectionReader(in.file, 0, about.Octets), readBlock)
		for n := range about.Lines {
			e, err := in.read(frames, n)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (in *incident) read(from io.Reader, n int) (e Exchange, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.aead == nil {
		return e, ErrNoIncident
	}
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return e, fmt.Errorf("incidents: %w", err)
	}
	frame := make([]byte, min(binary.BigEndian.Uint32(size[:]), MaxIncident))
	if _, err := io.ReadFull(from, frame); err != nil {
		return e, fmt.Errorf("incidents: %w", err)
	}
	plain, err := in.aead.Open(frame[:0], frameNonce(n), frame, []byte(in.about.ID))
	if err != nil {
		return e, fmt.Errorf("incidents: %w", err)
	}
	if err := json.Unmarshal(plain, &e); err != nil {
		return e, fmt.Errorf("incidents: %w", err)
	}
	return e, nil
}
