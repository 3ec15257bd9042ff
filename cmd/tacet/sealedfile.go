package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sealedFile keeps what a part knows over restarts: encrypted under a key of
// its own in the key folder, and replaced as a whole, so that a power cut leaves
// the old content or the new one.
type sealedFile struct{ path, key string }

// sealed is the file name in data_dir; its key has the same name in keys/.
func (c *Config) sealed(name string) sealedFile {
	return sealedFile{filepath.Join(c.DataDir, name), filepath.Join(c.keyDir(), name)}
}

// maxSealed is how large such a file may be.
const maxSealed = 64 << 20

// Load returns what was saved last, or nothing.
func (s sealedFile) Load() ([]byte, error) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", s.path, err)
	case info.Size() > maxSealed:
		return nil, fmt.Errorf("reading %s: it is too large", s.path)
	}
	box, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.path, err)
	}
	key, err := os.ReadFile(s.key)
	if err != nil {
		return nil, fmt.Errorf("reading the key of %s: %w", s.path, err)
	}
	seal, err := sealWith(key)
	if err != nil || len(box) < seal.NonceSize() {
		return nil, fmt.Errorf("%s or its key is damaged", s.path)
	}
	content, err := seal.Open(nil, box[:seal.NonceSize()], box[seal.NonceSize():], nil)
	if err != nil {
		return nil, fmt.Errorf("%s or its key is damaged", s.path)
	}
	return content, nil
}

// Save replaces what is kept.
func (s sealedFile) Save(content []byte) error {
	key, err := os.ReadFile(s.key)
	if err != nil || len(key) != masterSize {
		key = make([]byte, masterSize)
		rand.Read(key)
		if err := replaceFile(s.key, key); err != nil {
			return fmt.Errorf("making the key of %s: %w", s.path, err)
		}
	}
	seal, err := sealWith(key)
	if err != nil {
		return fmt.Errorf("sealing %s: %w", s.path, err)
	}
	nonce := make([]byte, seal.NonceSize(), seal.NonceSize()+len(content)+seal.Overhead())
	rand.Read(nonce)
	if err := replaceFile(s.path, seal.Seal(nonce, nonce, content, nil)); err != nil {
		return fmt.Errorf("writing %s: %w", s.path, err)
	}
	return nil
}

// freshFile is a sealedFile with a new key at each save: once a save has returned, no
// copy of what was kept before can be read, in a backup or anywhere.
type freshFile struct{ sealedFile }

// next is the key that is about to take the place of the other.
func (f freshFile) next() string { return f.key + ".next" }

// Load returns what was saved last, or nothing. It finishes a save that a crash cut short.
func (f freshFile) Load() ([]byte, error) {
	content, err := sealedFile{f.path, f.next()}.Load()
	if err == nil && content != nil {
		return content, f.succeed()
	}
	return f.sealedFile.Load() // the next key came to nothing, and the next save replaces it
}

// Save replaces what is kept: the new key is on the disk before what it seals, and the old
// one until then.
func (f freshFile) Save(content []byte) error {
	if err := destroyFile(f.next()); err != nil {
		return fmt.Errorf("making the key of %s: %w", f.path, err)
	}
	if err := (sealedFile{f.path, f.next()}).Save(content); err != nil {
		return err
	}
	return f.succeed()
}

// succeed destroys the old key and puts the next one in its place.
func (f freshFile) succeed() error {
	if err := destroyFile(f.key); err != nil {
		return fmt.Errorf("destroying the old key of %s: %w", f.path, err)
	}
	if err := os.Rename(f.next(), f.key); err != nil {
		return fmt.Errorf("making the key of %s: %w", f.path, err)
	}
	return syncFolder(filepath.Dir(f.key))
}

// destroyFile overwrites a file and removes it. One that is not there is no error.
func destroyFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Write(make([]byte, info.Size()))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func sealWith(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// replaceFile writes a file of mode 0600 anew, whole or not at all.
func replaceFile(path string, content []byte) error {
	partial := path + ".new"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
