package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/scrypt"

	"tacet/queue/pebblestore"
)

// The master key seals the queue's other keys. It comes from a file, from
// systemd, or from a passphrase that a person gives at each start.

// KeysConfig is [keys].
type KeysConfig struct{ Master string }

// The kinds of sources.
const (
	sourceFile       = "file:"
	sourceCredential = "credential:"
	sourcePrompt     = "prompt"
)

const masterSize = 32 // octets: AES-256

func masterSource(s string) error {
	path, file := strings.CutPrefix(s, sourceFile)
	name, credential := strings.CutPrefix(s, sourceCredential)
	switch {
	case s == sourcePrompt:
		return nil
	case file && path != "" && filename(path) == nil:
		return nil
	case credential && credentialName(name):
		return nil
	}
	return errors.New("want \"file:/path\", \"credential:NAME\" or \"prompt\"")
}

// credentialName tells whether the name is one of systemd's credentials: a
// plain file name (systemd.exec(5)).
func credentialName(name string) bool {
	return name != "" && len(name) <= 255 && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// complete fills in the default, and makes the path of a file absolute.
func (k *KeysConfig) complete(folder, keyDir string) {
	if k.Master == "" {
		k.Master = sourceFile + filepath.Join(keyDir, "master")
		return
	}
	if path, file := strings.CutPrefix(k.Master, sourceFile); file {
		absolute(folder, &path)
		k.Master = sourceFile + path
	}
}

// ownKeyFile tells whether the key is the one that the queue makes for itself.
func (c *Config) ownKeyFile() bool {
	return c.Keys.Master == sourceFile+filepath.Join(c.keyDir(), "master")
}

// masterKey gets the master key, nil for the one that the queue makes for
// itself. ask gets a passphrase from a person.
func (c *Config) masterKey(ctx context.Context, ask asking) ([]byte, error) {
	path, file := strings.CutPrefix(c.Keys.Master, sourceFile)
	name, credential := strings.CutPrefix(c.Keys.Master, sourceCredential)
	switch {
	case c.ownKeyFile():
		return nil, nil
	case file:
		return c.keyOfFile(path)
	case credential:
		return keyOfCredential(name)
	}
	return c.keyOfPassphrase(ctx, ask)
}

// keyOfFile reads the key, and makes it where neither it nor the queue's keys exist yet.
func (c *Config) keyOfFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if used, err := c.keysExist(); err != nil || used {
			return nil, errors.Join(fmt.Errorf("the master key %s is missing, and the queue's keys in %s need it: put it back; nothing was changed", path, c.keyDir()), err)
		}
		key := make([]byte, masterSize)
		rand.Read(key)
		if err := writeNew(path, key); err != nil {
			return nil, fmt.Errorf("making the master key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the master key %s may be read by others (mode %04o), so it is not used: chmod 600 %s", path, mode.Perm(), path)
	}
	return readKey(f, path)
}

// keyOfCredential reads what LoadCredential= or SetCredentialEncrypted= of the
// unit has put before the process (systemd.exec(5)).
func keyOfCredential(name string) ([]byte, error) {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	if folder == "" {
		return nil, fmt.Errorf("keys.master is the credential %s, and systemd has passed none: only the unit has it, by LoadCredentialEncrypted=%s; "+
			"to work without the daemon, run the command with systemd-run --pty -p LoadCredentialEncrypted=…", quote(name), name)
	}
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, fmt.Errorf("reading the credential %s: the unit needs LoadCredentialEncrypted=%s: %w", quote(name), name, err)
	}
	defer f.Close()
	return readKey(f, "the credential "+quote(name))
}

// readKey reads 32 octets, or 64 hexadecimal digits.
func readKey(r io.Reader, where string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, 2*masterSize+3))
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w", err)
	}
	if len(b) == masterSize {
		return b, nil
	}
	defer clear(b)
	key := make([]byte, masterSize)
	if text := bytes.TrimRight(b, "\r\n"); len(text) == 2*masterSize {
		if _, err := hex.Decode(key, text); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("the master key in %s is neither 32 octets nor 64 hexadecimal digits: `openssl rand -hex 32` makes one", where)
}

// keysExist tells whether there are keys of the queue that a master key has sealed.
func (c *Config) keysExist() (bool, error) {
	entries, err := os.ReadDir(c.keyDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == "slots" || strings.HasPrefix(e.Name(), "epoch-") {
			return true, nil
		}
	}
	return false, nil
}

// The passphrase's salt stands beside the keys. Without it the passphrase is
// worth nothing.
const (
	saltName  = "passphrase-salt"
	saltSize  = 16
	shortest  = 12 // octets of a new passphrase
	scryptN   = 1 << 16
	scryptR   = 8
	scryptP   = 1 // 64 MiB and some tenths of a second for each guess
	maxPhrase = 1 << 10
)

// asking gets a passphrase from a person.
type asking func(ctx context.Context, prompt string) ([]byte, error)

func (c *Config) keyOfPassphrase(ctx context.Context, ask asking) ([]byte, error) {
	path := filepath.Join(c.keyDir(), saltName)
	salt, err := os.ReadFile(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case isNew:
		if used, err := c.keysExist(); err != nil || used {
			return nil, errors.Join(fmt.Errorf("the passphrase's salt %s is missing, and the queue's keys beside it need it, or they were made with another keys.master; nothing was changed", path), err)
		}
	case err != nil:
		return nil, fmt.Errorf("reading the passphrase's salt: %w", err)
	case len(salt) != saltSize:
		return nil, fmt.Errorf("the passphrase's salt %s is damaged: it has %d octets, not %d", path, len(salt), saltSize)
	}
	phrase, err := askPhrase(ctx, ask, isNew)
	defer clear(phrase)
	if err != nil {
		return nil, err
	}
	if isNew {
		salt = make([]byte, saltSize)
		rand.Read(salt)
		if err := os.MkdirAll(c.keyDir(), 0o700); err != nil {
			return nil, fmt.Errorf("making the key folder: %w", err)
		}
		if err := writeNew(path, salt); err != nil {
			return nil, fmt.Errorf("making the passphrase's salt: %w", err)
		}
	}
	key, err := scrypt.Key(phrase, salt, scryptN, scryptR, scryptP, masterSize)
	if err != nil {
		return nil, fmt.Errorf("deriving the master key: %w", err)
	}
	return key, nil
}

// askPhrase asks for the passphrase, for a new one twice.
func askPhrase(ctx context.Context, ask asking, isNew bool) ([]byte, error) {
	if !isNew {
		phrase, err := ask(ctx, "Passphrase of the mail queue")
		if err == nil && len(phrase) > maxPhrase {
			err = errors.New("the passphrase is too long")
		}
		return phrase, err
	}
	first, err := ask(ctx, "New passphrase of the mail queue")
	if err != nil {
		return first, err
	}
	if len(first) < shortest || len(first) > maxPhrase {
		return first, fmt.Errorf("the passphrase has %d octets: it is all that protects the queue, so give it %d or more; nothing was changed", len(first), shortest)
	}
	again, err := ask(ctx, "Once more")
	defer clear(again)
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passphrases differ; nothing was changed")
	}
	return first, err
}

// writeNew writes a file that must not exist yet, durably, for its owner alone.
func writeNew(path string, content []byte) error {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link replaces nothing.
	if err := os.Link(unfinished, path); err != nil {
		return err
	}
	return errors.Join(os.Remove(unfinished), syncFolder(filepath.Dir(path)))
}

// wrongKey says what a key that does not fit means for who reads it.
func (c *Config) wrongKey(err error) error {
	if !errors.Is(err, pebblestore.ErrKeys) {
		return err
	}
	advice := fmt.Sprintf("the master key (keys.master = %s) is not the one that the queue's keys in %s were sealed with", quote(c.Keys.Master), c.keyDir())
	switch {
	case c.Keys.Master == sourcePrompt:
		advice = "the passphrase is not that of this queue: try again"
	case c.ownKeyFile():
		advice = fmt.Sprintf("the master key in %s does not fit the queue's keys beside it, or is missing: put the right one back", c.keyDir())
	}
	return fmt.Errorf("%s; nothing was changed: %w", advice, err)
}
