package pebblestore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

const (
	keySize   = 32 // AES-256
	nonceSize = 12
	tagSize   = 16

	sealedKey = keySize + tagSize
)

// What a message's key seals is told apart by the first octet of the nonce.
// Envelope and content are written once; a state record is written again and
// again, so the rest of its nonce is random.
const (
	sealEnvelope = 1
	sealContent  = 2
	sealState    = 3
)

var (
	// errKeyMoved says that a message's key has gone from its epoch to a slot
	// since its reference was read: read it again.
	errKeyMoved = errors.New("the message's key has moved")

	// ErrKeys says that the key folder does not fit: another master key, or
	// none where there are keys that need it.
	ErrKeys = errors.New("the queue's key folder does not match its master key")
)

// keyRef tells where a message's key is: in an epoch that runs or has just
// ended, or in a slot. It means something in this process only.
type keyRef uint32

const (
	refEpoch keyRef = 1 << 31 // set: the rest numbers an epoch; clear: a slot
	refNone  keyRef = 1<<31 - 1
)

// epoch is a span of minutes. The keys of the messages that came in it derive
// from its key, so that they die with it.
type epoch struct {
	id      uint64 // random: in the records, and in the name of its file
	ref     keyRef
	earlier bool // an earlier process began it

	mu  sync.Mutex
	mac hash.Hash

	used atomic.Bool // a message has come in it
}

func newEpoch(id uint64, ref keyRef, key []byte) *epoch {
	return &epoch{id: id, ref: ref, mac: hmac.New(sha256.New, key)}
}

func (e *epoch) fileName() string { return epochPrefix + fmt.Sprintf("%016x", e.id) }

// messageKey appends the key of one message to b.
func (e *epoch) messageKey(b []byte, id queue.ID) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mac.Reset()
	e.mac.Write(id[:])
	return e.mac.Sum(b)
}

func (e *epoch) aead(id queue.ID) (cipher.AEAD, error) {
	var key [keySize]byte
	defer clear(key[:])
	return newAEAD(e.messageKey(key[:0], id))
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Files of the key folder, beside the slot file.
const (
	masterName  = "master"
	epochPrefix = "epoch-"
	cacheTag    = "CACHEDIR.TAG" // keeps the folder out of backups that honour it
	cacheText   = "Signature: 8a477f597d28d172789f06886806bc55\n# The keys of the mail queue. They must never be in a backup: forgetting depends on it.\n"
)

// keyring holds every key of the store. What it writes is sealed by keys that
// derive from the master key.
type keyring struct {
	fs     vfs.FS
	dir    string
	folder vfs.File // the folder itself, for syncing
	wrap   cipher.AEAD
	slots  slotFile

	current atomic.Pointer[epoch] // changed under Store.committer.mu, so that a batch knows its epoch

	mu      sync.RWMutex
	epochs  map[keyRef]*epoch // that can still be read from
	lastRef keyRef
}

// openKeyring opens the key folder, makes it where there is none, and begins
// an epoch. Epochs of an earlier process stay readable until they are ended.
func openKeyring(fs vfs.FS, dir string, master []byte) (_ *keyring, err error) {
	if err := makeFolder(fs, dir); err != nil {
		return nil, fmt.Errorf("make the key folder: %w", err)
	}
	k := &keyring{fs: fs, dir: dir, epochs: make(map[keyRef]*epoch)}
	if k.folder, err = fs.OpenDir(dir); err != nil {
		return nil, fmt.Errorf("open the key folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	if err := setMode(k.folder, 0o700); err != nil {
		return nil, err
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list the key folder: %w", err)
	}
	if master, err = k.masterKey(master, names); err != nil {
		return nil, err
	}
	defer clear(master)
	if k.wrap, err = subkey(master, "epoch keys"); err != nil {
		return nil, err
	}
	slotWrap, err := subkey(master, "slots")
	if err != nil {
		return nil, err
	}
	if err := k.slots.open(fs, fs.PathJoin(dir, slotName), slotWrap); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := k.loadEpoch(name); err != nil {
			return nil, err
		}
	}
	next, err := k.newEpoch()
	if err != nil {
		return nil, err
	}
	k.current.Store(next)
	return k, nil
}

func subkey(master []byte, purpose string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, master, nil, "tacet queue: "+purpose, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newAEAD(key)
}

// masterKey is the key given, or that of the key folder, made at first use.
// A new one is never made beside keys that an older one has sealed.
func (k *keyring) masterKey(given []byte, names []string) ([]byte, error) {
	if given != nil {
		if len(given) != keySize {
			return nil, fmt.Errorf("the master key is %d octets long, not %d: %w", len(given), keySize, ErrKeys)
		}
		return slices.Clone(given), k.writeOnce(names, cacheTag, []byte(cacheText))
	}
	if slices.Contains(names, masterName) {
		key, err := readFile(k.fs, k.fs.PathJoin(k.dir, masterName))
		if err != nil {
			return nil, fmt.Errorf("read the master key: %w", err)
		}
		if len(key) != keySize {
			return nil, fmt.Errorf("the master key's file is damaged: %w", ErrKeys)
		}
		return key, nil
	}
	for _, name := range names {
		if name == slotName || strings.HasPrefix(name, epochPrefix) {
			return nil, fmt.Errorf("the master key is missing: %w", ErrKeys)
		}
	}
	if err := k.writeOnce(names, cacheTag, []byte(cacheText)); err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	// Renamed when whole, so that a crash leaves no half of it.
	const unfinished = masterName + ".new"
	if err := k.writeFile(unfinished, key); err != nil {
		return nil, err
	}
	if err := k.fs.Rename(k.fs.PathJoin(k.dir, unfinished), k.fs.PathJoin(k.dir, masterName)); err != nil {
		return nil, fmt.Errorf("name the master key: %w", err)
	}
	return key, k.folder.Sync()
}

func (k *keyring) writeOnce(names []string, name string, b []byte) error {
	if slices.Contains(names, name) {
		return nil
	}
	return k.writeFile(name, b)
}

// writeFile makes a file of the key folder durable, its name too.
func (k *keyring) writeFile(name string, b []byte) error {
	f, err := k.fs.Create(k.fs.PathJoin(k.dir, name), writeCategory)
	if err != nil {
		return fmt.Errorf("make a file of the key folder: %w", err)
	}
	err = ownerOnly(f)
	if err == nil {
		_, err = f.Write(slices.Clone(b)) // a vfs.File may scribble on what it is given
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = k.folder.Sync()
	}
	if err != nil {
		return fmt.Errorf("write a file of the key folder: %w", err)
	}
	return nil
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// newEpoch makes the next epoch durable. Nothing is sealed under it before.
func (k *keyring) newEpoch() (*epoch, error) {
	var id [8]byte
	key := make([]byte, keySize)
	rand.Read(id[:])
	rand.Read(key)
	defer clear(key)

	k.mu.Lock()
	k.lastRef++
	e := newEpoch(binary.BigEndian.Uint64(id[:]), refEpoch|k.lastRef, key)
	k.mu.Unlock()

	sealed := make([]byte, nonceSize, nonceSize+sealedKey)
	rand.Read(sealed)
	sealed = k.wrap.Seal(sealed, sealed, key, id[:])
	if err := k.writeFile(e.fileName(), sealed); err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.epochs[e.ref] = e
	k.mu.Unlock()
	return e, nil
}

// loadEpoch reads the key of an epoch that an earlier process left.
func (k *keyring) loadEpoch(name string) error {
	hex, ok := strings.CutPrefix(name, epochPrefix)
	if !ok {
		return nil
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return nil // not ours
	}
	sealed, err := readFile(k.fs, k.fs.PathJoin(k.dir, name))
	if err != nil {
		return fmt.Errorf("read an epoch's key: %w", err)
	}
	if len(sealed) < nonceSize+sealedKey || !slices.ContainsFunc(sealed, func(b byte) bool { return b != 0 }) {
		// A crash came while it was made, so it was never used; or while it
		// was destroyed, so it is needed no more.
		return k.remove(name)
	}
	key, err := k.wrap.Open(nil, sealed[:nonceSize], sealed[nonceSize:], binary.BigEndian.AppendUint64(nil, id))
	if err != nil {
		// Left where it is: it may be the master key that is the wrong one.
		return nil
	}
	defer clear(key)
	k.lastRef++
	e := newEpoch(id, refEpoch|k.lastRef, key)
	e.earlier = true
	e.used.Store(true)
	k.epochs[e.ref] = e
	return nil
}

// destroy makes the epoch's key unreadable for good.
func (k *keyring) destroy(e *epoch) error {
	f, err := k.fs.OpenReadWrite(k.fs.PathJoin(k.dir, e.fileName()), writeCategory)
	if err != nil {
		return fmt.Errorf("open an epoch's key: %w", err)
	}
	_, err = f.WriteAt(make([]byte, nonceSize+sealedKey), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("overwrite an epoch's key: %w", err)
	}
	if err := k.remove(e.fileName()); err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.epochs, e.ref)
	k.mu.Unlock()
	return nil
}

func (k *keyring) remove(name string) error {
	if err := k.fs.Remove(k.fs.PathJoin(k.dir, name)); err != nil {
		return fmt.Errorf("remove an epoch's key: %w", err)
	}
	return k.folder.Sync()
}

// ended lists the epochs other than the running one whose keys still exist.
func (k *keyring) ended() []*epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var ended []*epoch
	for _, e := range k.epochs {
		if e != k.current.Load() {
			ended = append(ended, e)
		}
	}
	return ended
}

// byID finds an epoch by the number in a record, nil if its key is gone.
func (k *keyring) byID(id uint64) *epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, e := range k.epochs {
		if e.id == id {
			return e
		}
	}
	return nil
}

// aead is the cipher of one message.
func (k *keyring) aead(id queue.ID, ref keyRef) (cipher.AEAD, error) {
	if ref == refNone {
		return nil, queue.ErrDamaged
	}
	if ref&refEpoch == 0 {
		return k.slots.aead(uint32(ref), id)
	}
	k.mu.RLock()
	e := k.epochs[ref]
	k.mu.RUnlock()
	if e == nil {
		return nil, errKeyMoved
	}
	return e.aead(id)
}

func (k *keyring) close() error {
	return errors.Join(k.slots.close(), k.folder.Close())
}

// fixedNonce is the nonce of a record that is written once under its key.
func fixedNonce(purpose byte) [nonceSize]byte { return [nonceSize]byte{purpose} }
