package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyFindings is what check says of the master key: where it comes from, and what that
// protects against.
type keyFindings struct {
	Master   string   `json:"master"`
	State    string   `json:"state"`
	Protects []string `json:"protects_against"`
	Leaves   []string `json:"does_not_protect_against"`
}

// keys looks at the source of the master key, and changes nothing.
func (f *findings) keys(c *Config) keyFindings {
	path, file := strings.CutPrefix(c.Keys.Master, sourceFile)
	name, credential := strings.CutPrefix(c.Keys.Master, sourceCredential)
	k := keyFindings{
		Master:   c.Keys.Master,
		Protects: []string{"reading a copy of the queue without its keys: a backup of data_dir that leaves out keys/", "reading a delivered message from anywhere, once its key is destroyed"},
		Leaves:   []string{"root on this machine while the relay runs"},
	}
	withDisk := "reading what is queued from a stolen disk, or an image of it"
	switch {
	case c.ownKeyFile():
		k.State = f.keyFile(c, path)
		k.Leaves = append(k.Leaves, withDisk+": the master key is on it, in keys/. Encrypt the disk, or take the key from a credential or a prompt")
	case file:
		k.State = f.keyFile(c, path)
		k.Protects = append(k.Protects, withDisk+", as long as "+filepath.Dir(path)+" is on another one")
		k.Leaves = append(k.Leaves, "whoever gets both disks")
	case credential:
		k.State = f.keyCredential(name)
		k.Protects = append(k.Protects, withDisk+", if the unit has the key by LoadCredentialEncrypted= and systemd-creds sealed it to the TPM")
		k.Leaves = append(k.Leaves, "whoever steals the whole machine and can start it: the TPM then gives the key to systemd")
	default:
		k.State = f.keyPassphrase(c)
		k.Protects = append(k.Protects, withDisk+", or the whole machine once it is off, as far as the passphrase cannot be guessed")
		k.Leaves = append(k.Leaves, "an outage: after each start the relay waits for a person")
	}
	return k
}

func (f *findings) keyFile(c *Config, path string) string {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if used, err := c.keysExist(); err == nil && used {
			f.fault("keys.master: %s is missing, and the queue's keys in %s need it: put it back", path, c.keyDir())
			return "missing"
		}
		return "made at the first start"
	case errors.Is(err, fs.ErrPermission):
		return "not open to this user"
	case err != nil:
		f.fault("keys.master: %v", err)
		return "unreadable"
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		f.fault("keys.master: %s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
		return "open to others"
	case c.ownKeyFile():
		return "there"
	}
	content, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return "not open to this user"
	}
	if err != nil {
		f.fault("keys.master: %v", err)
		return "unreadable"
	}
	defer content.Close()
	key, err := readKey(content, path)
	clear(key)
	if err != nil {
		f.fault("keys.master: %v", err)
		return "no key"
	}
	return "there"
}

func (f *findings) keyCredential(name string) string {
	if os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		return "not seen here: systemd passes it to the unit alone"
	}
	key, err := keyOfCredential(name)
	clear(key)
	if err != nil {
		f.fault("keys.master: %v", err)
		return "missing"
	}
	return "there"
}

func (f *findings) keyPassphrase(c *Config) string {
	_, err := os.Stat(filepath.Join(c.keyDir(), saltName))
	if !errors.Is(err, fs.ErrNotExist) {
		return "asked for at each start"
	}
	if used, err := c.keysExist(); err == nil && used {
		f.fault("keys.master: the keys in %s were not made with a passphrase, or its salt %s is missing", c.keyDir(), saltName)
		return "missing"
	}
	return "chosen at the first start"
}

// print writes the findings for people.
func (k keyFindings) print(w io.Writer) {
	fmt.Fprintf(w, "keys: the queue's master key is %s (%s)\n", quote(k.Master), k.State)
	for _, what := range k.Protects {
		fmt.Fprintln(w, "keys:   protects against", what)
	}
	for _, what := range k.Leaves {
		fmt.Fprintln(w, "keys:   does not protect against", what)
	}
}
