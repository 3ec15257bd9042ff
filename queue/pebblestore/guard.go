package pebblestore

import (
	"context"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// guardFS is the file system as the engine sees it. Where the engine cannot
// create, write, sync or close a log, or sync a folder, it panics, at places
// with locks in such a state that the process ends on the spot. So it is kept
// from hearing of such an error: the store has failed and acknowledges nothing
// more, and the goroutine that met the error stops there for ever.
type guardFS struct {
	vfs.FS
	s *Store
}

// check lets an error through only while the engine is not open, or being closed.
func (s *Store) check(err error) error {
	if err != nil && s.running.Load() {
		s.fail(err)
		select {}
	}
	return err
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func (g guardFS) guard(name string, f vfs.File, err error) (vfs.File, error) {
	if !isLog(name) {
		return f, err
	}
	if err := g.s.check(err); err != nil {
		return nil, err
	}
	return guardLog{guardFile{f, g.s}}, nil
}

func (g guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	f, err = g.guard(name, f, err)
	if log, ok := f.(guardLog); ok {
		return &aheadFile{guardLog: log}, err
	}
	return f, err
}

func (g guardFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(from, to, c)
	return g.guard(to, f, err)
}

func (g guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return guardFile{f, g.s}, nil
}

func (g guardFS) Unwrap() vfs.FS { return g.FS }

// guardFile is a folder, or what of a log is not special.
type guardFile struct {
	vfs.File
	s *Store
}

func (f guardFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.s.check(err)
}

func (f guardFile) Sync() error     { return f.s.check(f.File.Sync()) }
func (f guardFile) SyncData() error { return f.s.check(f.File.SyncData()) }
func (f guardFile) Close() error    { return f.s.check(f.File.Close()) }

func (f guardFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.s.check(err)
}

// guardLog is a log. What stands in it counts as durable after a sync.
type guardLog struct{ guardFile }

func (f guardLog) Sync() error     { return f.s.check(f.kept(f.File.Sync())) }
func (f guardLog) SyncData() error { return f.s.check(f.kept(f.File.SyncData())) }

// kept looks, after a sync, whether the file system still takes writes, for
// one that has given up may report success for what it did not do. Older kernels
// return early from a sync where ext4 was remounted read-only after an error. Newer ones keep that
// state to themselves, and drop what was under way when it began: the blocks of a
// file that has grown are never its own, and the sync finds nothing left to do.
// A write of nothing is the cheapest call that asks for that state.
func (f guardLog) kept(err error) error {
	fd := f.File.Fd()
	if err != nil || fd == vfs.InvalidFd {
		return err
	}
	if _, err := unix.Write(int(fd), nil); err != nil {
		return fmt.Errorf("after a sync: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(fd), &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("after a sync: %w", unix.EROFS)
	}
	return nil
}

// openDB opens the engine, whose panics become errors. Where the disk takes no
// writes its goroutines stop, and it may hang: then the store has failed.
func (s *Store) openDB(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	s.running.Store(true)
	err = s.engineDo(func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the engine failed: %v", r)
			}
		}()
		db, err = pebble.Open(dir, o)
		return err
	})
	if s.failedError() == nil {
		s.running.Store(false)
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// damagedOptions removes the notes of an earlier engine about its options
// where they cannot be read. They say nothing that ours do not: the names of
// records have always been ordered the same way. It tells whether to try again.
func (s *Store) damagedOptions(o *pebble.Options) bool {
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return false
	}
	removed := false
	for _, name := range names {
		if !strings.HasPrefix(name, "OPTIONS-") {
			continue
		}
		path := s.fs.PathJoin(s.opts.Dir, name)
		text, err := readFile(s.fs, path)
		if err == nil {
			ours := o.Clone()
			ours.EnsureDefaults()
			err = ours.CheckCompatibility(s.opts.Dir, string(text))
			if err == nil {
				continue
			}
		}
		if err := s.fs.Remove(path); err != nil {
			return false
		}
		removed = true
		s.opts.Events(Event{Kind: EventBackground, Err: fmt.Errorf("the engine's options are damaged and were removed: %w", err)})
	}
	return removed
}

// closeDB closes the engine, whose panics become errors.
func (s *Store) closeDB() error {
	s.running.Store(false)
	return closeEngine(s.db)
}

func closeEngine(db *pebble.DB) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the engine failed: %v", r)
		}
	}()
	return db.Close()
}

// flushTables makes the engine write its memory out.
func (s *Store) flushTables() error { return s.engineDo(s.db.Flush) }

// compactTables makes the engine rewrite its tables without what was deleted.
// Where a table is damaged it does nothing: that compaction would never end.
func (s *Store) compactTables() error {
	if s.isCorrupt() {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return s.engineDo(func() error {
		go func() {
			select {
			case <-s.corruption:
				cancel()
			case <-ctx.Done():
			}
		}()
		return s.db.Compact(ctx, []byte{prefixContent}, []byte{prefixState + 1}, false)
	})
}

// engineDo waits for the engine to do something, or for the end of the store:
// then the engine may hang.
func (s *Store) engineDo(do func() error) error {
	if err := s.failedError(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-s.failed:
		return s.failedError()
	}
}
