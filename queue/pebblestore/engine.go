package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"tacet/queue"
)

// The engine's sizes. Most messages are delivered, and so deleted, before the
// memtable they stand in is full; then neither they nor their deletion are
// ever written but to the log. Its files are as large as the memtable and are
// used again, which spares the file system's journal: four of them at most
// stay on the disk. Of an idle store little is left in memory.
//
// The engine takes the memtables' room from the cache, and what they leave holds
// blocks: without that, each record that is read back costs all the blocks on its
// way. Claims go by age as the tables do, so a few megabytes serve them.
const (
	memtableSize   = 6 << 20
	memtables      = 2
	blockCacheSize = 4 << 20
	cacheSize      = memtables*memtableSize + blockCacheSize
	maxOpenFiles   = 256
	maxGroupBytes  = 1 << 20 // a batch of half a memtable would be written twice

	writeCategory vfs.DiskWriteCategory = "tacet-queue"

	// Newer ones cannot be read by older releases: raised by a decision, not by an upgrade.
	formatVersion = pebble.FormatValueSeparation
)

// Names of records: one letter, then the queue ID.
const (
	prefixContent  = 'c'
	prefixEnvelope = 'e'
	prefixState    = 's'

	keyRetries = "mretries" // the retry generation, see Store.RetryAll
	keyFormat  = "mformat"  // one octet: queueFormat

	// lostRetries stands for a retry generation that cannot be read: beyond any
	// that was, so that what waits is rather tried too early than too late.
	lostRetries = 1 << 32

	queueFormat = 1 // of the records' names, and of how they are sealed
)

// ErrFormat says that a newer release has written the queue.
var ErrFormat = errors.New("the queue has a format that this release does not know")

func engineOptions(s *Store, fs vfs.FS, cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		FormatMajorVersion:          formatVersion,
		Cache:                       cache,
		MemTableSize:                memtableSize,
		MemTableStopWritesThreshold: memtables,
		MaxOpenFiles:                maxOpenFiles,
		MaxManifestFileSize:         1 << 20,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1 << 20, // without compactions a queue is slow, and takes mail
		LBaseMaxBytes:               32 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		Logger:                      engineLogger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.backgroundError,
			TableCreated:    func(pebble.TableCreateInfo) { s.tables.Store(true) },
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					s.backgroundErrors.Store(0)
				}
			},
			DataCorruption: s.corrupted,
		},
	}
	o.Experimental.L0CompactionConcurrency = 1
	o.Experimental.CompactionScheduler = &scheduler{corrupt: s.isCorrupt}
	// A part of a table keeps all of it on the disk.
	o.Experimental.EnableDeleteOnlyCompactionExcises = func() bool { return false }
	for i := range o.Levels {
		// What is sealed does not compress.
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		// A damaged block takes few messages with it.
		o.Levels[i].BlockSize = 4 << 10
	}
	return o
}

// engineLogger keeps the engine silent. The engine goes on wrongly where Fatalf
// returns, so it does not while the store runs: the goroutine stops there for
// ever, the store acknowledges nothing more, and the process is about to end.
type engineLogger struct{ s *Store }

func (engineLogger) Infof(string, ...any)  {}
func (engineLogger) Errorf(string, ...any) {}
func (l engineLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("the engine failed: "+format, args...)
	_ = l.s.check(err)
	l.s.fail(err)
}

// maxBackgroundErrors in a row mean that what is in memory cannot be written
// out: the engine would sooner or later stop taking writes without a word.
const maxBackgroundErrors = 20

func (s *Store) backgroundError(err error) {
	if pebble.IsCorruptionError(err) {
		s.corrupt()
		return // its file has been told of, and it stops nothing else
	}
	if isNoSpace(err) {
		s.space.full()
	}
	s.opts.Events(Event{Kind: EventBackground, Err: err})
	if s.backgroundErrors.Add(1) == maxBackgroundErrors {
		s.fail(fmt.Errorf("the engine cannot write: %w", err))
	}
}

// corrupted is called where a table does not match its checksums. It may come
// for each read of the block, and is told once for each table.
func (s *Store) corrupted(info pebble.DataCorruptionInfo) {
	s.corrupt()
	if _, known := s.corruptTables.LoadOrStore(info.Path, true); !known {
		s.opts.Events(Event{Kind: EventBackground, Err: info.Details})
	}
}

// corrupt ends all rewriting of tables until the process starts anew: it could
// not get beyond the damage, and would be tried again and again. Reading and
// writing go on. The next open copies what can be read of them into new tables.
func (s *Store) corrupt() {
	s.corruptOnce.Do(func() {
		close(s.corruption)
		s.marks.Go(s.markDamaged)
	})
}

// Corrupt tells whether a table was found damaged. Mail flows all the same, but
// the queue takes more and more of the disk until the process starts anew.
func (s *Store) Corrupt() bool { return s.isCorrupt() }

// isCorrupt tells whether a table was found damaged.
func (s *Store) isCorrupt() bool {
	select {
	case <-s.corruption:
		return true
	default:
		return false
	}
}

// fail ends the store's life after an error that leaves open what is on the
// disk: a later success of the same call proves nothing.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failure.Store(&err)
		close(s.failed)
		s.opts.Events(Event{Kind: EventFailed, Err: err})
		go s.opts.Fatal()
	})
}

// usable is nil while the store takes writes.
func (s *Store) usable() error {
	if s.closed.Load() {
		return fmt.Errorf("%w: it is closed", queue.ErrUnavailable)
	}
	return s.failedError()
}

// failedError says why the store has failed; nil while it has not.
func (s *Store) failedError() error {
	if p := s.failure.Load(); p != nil {
		return fmt.Errorf("%w: %w", queue.ErrUnavailable, *p)
	}
	return nil
}

// Failed is closed when the store has failed, see Options.Fatal.
func (s *Store) Failed() <-chan struct{} { return s.failed }

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// shortage tells whether a read failed for want of descriptors or memory. That
// passes, and says nothing of what was to be read.
func shortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// diskError gives a failed write the meaning that the sessions answer by.
func diskError(err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
}

// makeFolder makes a folder that only we can look into, and its name durable.
func makeFolder(fs vfs.FS, dir string) error {
	var made []string
	for at := dir; ; at = fs.PathDir(at) {
		if _, err := fs.Stat(at); err == nil || at == fs.PathDir(at) {
			break
		}
		made = append(made, at)
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, at := range made {
		parent, err := fs.OpenDir(fs.PathDir(at))
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ownerOnly keeps a file from other users, where there are any.
func ownerOnly(f vfs.File) error { return setMode(f, 0o600) }

func setMode(f vfs.File, mode fs.FileMode) error {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		if err := unix.Fchmod(int(fd), uint32(mode)); err != nil {
			return fmt.Errorf("set a file's mode: %w", err)
		}
	}
	return nil
}
