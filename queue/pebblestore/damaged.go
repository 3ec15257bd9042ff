package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"tacet/queue"
)

// Damaged reads every file of a queue's engine and tells what of them is damaged,
// by the name of the file or in words: what the next Open will read around. It
// needs no key, changes nothing, and finds nothing in a folder where there is
// no queue. queue.ErrLocked says that a process has the queue open. It must
// not be called by that process, which would lose its lock.
//
// The contents of large messages have no checksum that could be read without
// their key: damage of those shows when they are delivered.
func Damaged(o Options) (damaged []string, err error) {
	o = o.withDefaults()
	s := &Store{opts: o, fs: o.FS}
	s.synced.init(s.fs, o.Dir)
	names, err := s.fs.List(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = s.inUse()
	}
	if err != nil {
		return nil, fmt.Errorf("look for damage of the queue: %w", err)
	}
	if damaged, err = s.damagedTables(names); err == nil && len(damaged) == 0 {
		if cause := s.examine(); cause != nil {
			damaged = append(damaged, cause.Error())
		}
	}
	// Where it was opened meanwhile its files have changed under the reading.
	if err = errors.Join(err, s.inUse()); err != nil {
		return nil, fmt.Errorf("look for damage of the queue: %w", err)
	}
	return damaged, nil
}

// inUse tells whether a process has the queue open.
func (s *Store) inUse() error {
	f, err := s.fs.Open(s.fs.PathJoin(s.opts.Dir, "LOCK"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody ever had
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Fd() == vfs.InvalidFd {
		return nil
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return fmt.Errorf("ask for a lock: %w", err)
	}
	if lock.Type != unix.F_UNLCK {
		return queue.ErrLocked
	}
	return nil
}

// damagedTables lists the tables in use that cannot be read whole.
func (s *Store) damagedTables(names []string) (damaged []string, err error) {
	m, err := s.readManifest(names)
	if err != nil {
		return nil, nil // that is damage enough, or there is no engine yet
	}
	reader := newTableReader()
	slices.Sort(names)
	for _, name := range names {
		n, ok := fileNumber(name, ".sst")
		size, used := m.tables[n]
		if !ok || !used {
			continue
		}
		b, err := readFile(s.fs, s.fs.PathJoin(s.opts.Dir, name))
		if err != nil {
			return nil, err
		}
		lossy, _ := reader.read(b, func(*operation) error { return nil })
		if lossy || int64(len(b)) < size || errors.Is(s.examineTable(name), errDamage) {
			damaged = append(damaged, name)
		}
	}
	return damaged, nil
}
