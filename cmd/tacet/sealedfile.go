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
