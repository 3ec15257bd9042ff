package logging

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// keyring is the folder of the log's keys: one file for each encrypted file
// of the log, relay-YYYY-MM-DD.ID.key, of 32 random octets. It is in no backup.
// Without its key a file is noise, so destroying the key is what forgets.
type keyring struct {
	dir string
	mu  sync.Mutex // held while a key has no file yet that names it
}

type keyID [8]byte

// keyFile is a key there is.
type keyFile struct {
	day day
	id  keyID
}

const (
	keySize   = 32
	keySuffix = ".key"
	tagFile   = "CACHEDIR.TAG"
	tagText   = "Signature: 8a477f597d28d172789f06886806bc55\n# Keys of tacet. A backup of them would undo what was forgotten.\n"
)

func (k keyFile) name() string { return k.day.stem() + "." + hex.EncodeToString(k.id[:]) + keySuffix }

func parseKeyFile(name string) (k keyFile, ok bool) {
	const stem = len("relay-2006-01-02")
	rest, ok := strings.CutSuffix(name, keySuffix)
	if !ok || len(rest) != stem+1+2*len(k.id) || rest[stem] != '.' {
		return k, false
	}
	if k.day, ok = dayOfFile(rest[:stem] + plainSuffix); !ok {
		return k, false
	}
	id, err := hex.DecodeString(rest[stem+1:])
	copy(k.id[:], id)
	return k, err == nil && k.name() == name
}

func (r *keyring) path(k keyFile) string { return filepath.Join(r.dir, k.name()) }

// prepare makes the folder, and tells backups to leave it out.
func (r *keyring) prepare() error {
	if _, err := os.Stat(filepath.Join(r.dir, tagFile)); err == nil {
		return nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, tagFile), []byte(tagText), 0o600)
}

// create makes the key of a new file; it is on the disk when it returns.
func (r *keyring) create(h *frameHeader) (*box, error) {
	if err := r.prepare(); err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	rand.Read(h.key[:])
	f, err := os.OpenFile(r.path(keyFile{h.day, h.key}), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(r.dir)); err != nil {
		return nil, err
	}
	return newBox(key, *h)
}

// box gives what opens a file. A key that is gone, or was just overwritten to
// be gone, is [fs.ErrNotExist].
func (r *keyring) box(h frameHeader) (*box, error) {
	if r == nil || r.dir == "" {
		return nil, errNoKeys
	}
	key, err := os.ReadFile(r.path(keyFile{h.day, h.key}))
	if err != nil {
		return nil, err
	}
	if len(key) != keySize || bytes.Equal(key, make([]byte, keySize)) {
		return nil, fs.ErrNotExist
	}
	return newBox(key, h)
}

// errNoKeys is of a reader that was not told where the keys are.
var errNoKeys = errors.New("relay log: encrypted, and the folder of keys is not known")

// destroy overwrites a key, makes that durable, and removes its file. A key
// that is not there is no error.
func (r *keyring) destroy(k keyFile) error {
	f, err := os.OpenFile(r.path(k), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, keySize), 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Remove(r.path(k)), syncDir(r.dir))
}

// list gives the keys there are; none if there is no folder.
func (r *keyring) list() ([]keyFile, error) {
	if r.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var keys []keyFile
	for _, entry := range entries {
		if k, ok := parseKeyFile(entry.Name()); ok {
			keys = append(keys, k)
		}
	}
	return keys, err
}

// syncDir makes what was made, renamed or removed in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
