package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tacet/relay/auth"
)

// usersFile edits a users file: one edit at a time on the machine, replaced as
// a whole so that a reader and a power cut meet the old content or the new one.
type usersFile struct {
	path string
	lock *os.File
}

// editUsers opens the users file for an edit. Close it afterwards.
func editUsers(path string) (*usersFile, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, fmt.Errorf("making the users file's folder: %w", err)
	}
	// The file itself is replaced, so the lock is on a neighbour that stays.
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the users file: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("locking the users file: %w", err)
	}
	return &usersFile{path: path, lock: lock}, nil
}

func (u *usersFile) Close() error { return u.lock.Close() }

// lines are the file's lines as they stand, none if there is no file yet.
func (u *usersFile) lines() ([]string, error) {
	content, err := os.ReadFile(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the users file: %w", err)
	}
	text := strings.TrimSuffix(string(content), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// set gives the user a hash, and rules as change makes them of those there were; a user
// that is new stands at the end.
func (u *usersFile) set(name, hash string, change func(*auth.Rules)) (rules auth.Rules, added bool, err error) {
	rules, added, err = u.edit(name, func(string) string { return hash }, change)
	if err != nil || !added {
		return rules, added, err
	}
	lines, err := u.lines()
	if err != nil {
		return rules, true, err
	}
	change(&rules)
	return rules, true, u.write(append(lines, auth.Line(name, hash, rules)))
}

// edit changes the line of a user. missing tells that there is none.
func (u *usersFile) edit(name string, hash func(string) string, change func(*auth.Rules)) (rules auth.Rules, missing bool, err error) {
	lines, err := u.lines()
	if err != nil {
		return rules, false, err
	}
	missing = true
	for i, line := range lines {
		if auth.Name(line) != name {
			continue
		}
		var old string
		if _, old, rules, err = auth.SplitLine(line); err != nil {
			return rules, false, fmt.Errorf("users file, line %d: %w", i+1, err)
		}
		change(&rules)
		lines[i], missing = auth.Line(name, hash(old), rules), false
	}
	if missing {
		return rules, true, nil
	}
	return rules, false, u.write(lines)
}

// remove takes the user out; false if there was none of that name.
func (u *usersFile) remove(name string) (bool, error) {
	lines, err := u.lines()
	if err != nil {
		return false, err
	}
	kept := lines[:0]
	for _, line := range lines {
		if auth.Name(line) != name {
			kept = append(kept, line)
		}
	}
	if len(kept) == len(lines) {
		return false, nil
	}
	return true, u.write(kept)
}

// write replaces the file. An existing one keeps its owner and mode, so that
// root may edit the users of a daemon that runs as someone else.
func (u *usersFile) write(lines []string) error {
	temp, err := os.CreateTemp(filepath.Dir(u.path), ".users-*")
	if err != nil {
		return fmt.Errorf("writing the users file: %w", err)
	}
	defer os.Remove(temp.Name()) // does nothing after the rename
	defer temp.Close()
	if err := inheritOwner(temp, u.path); err != nil {
		return fmt.Errorf("writing the users file: %w", err)
	}
	text := strings.Join(lines, "\n")
	if text != "" {
		text += "\n"
	}
	if _, err := temp.WriteString(text); err != nil {
		return fmt.Errorf("writing the users file: %w", err)
	}
	if err := temp.Sync(); err != nil {
		return fmt.Errorf("writing the users file: %w", err)
	}
	if err := os.Rename(temp.Name(), u.path); err != nil {
		return fmt.Errorf("writing the users file: %w", err)
	}
	return syncFolder(filepath.Dir(u.path))
}

// inheritOwner gives temp the owner and mode of the file that it replaces, at
// most 0640. A new one is 0600; if root makes it in a folder of another group,
// as that of the relay's user, it is the group's to read.
func inheritOwner(temp *os.File, path string) error {
	var old unix.Stat_t
	err := unix.Stat(path, &old)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Stat(filepath.Dir(path), &old); err != nil {
			return err
		}
		old.Uid, old.Mode = uint32(os.Geteuid()), 0o600
		if os.Geteuid() == 0 && old.Gid != 0 {
			old.Mode = 0o640
		}
	} else if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := temp.Chown(int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
	}
	return temp.Chmod(fs.FileMode(old.Mode) & 0o640)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	return nil
}
