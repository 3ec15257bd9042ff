package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// Store is the queue on one disk. It fills queue.Store and queue.Admin.
type Store struct {
	opts      Options
	fs        vfs.FS
	db        *pebble.DB
	cache     *pebble.Cache
	keys      *keyring
	space     space
	committer committer
	keep      keeper
	outcomes  outcomes
	synced    synced
	trim      chan chan struct{} // asks the committer to delete everything

	contents      string // folder of the content files
	contentFolder vfs.File
	streams       streams
	chunks        chunkPool
	buffers       bufferPool

	routing atomic.Pointer[routing]
	senders senders
	retries atomic.Uint64 // the retry generation, see RetryAll

	mu     sync.Mutex // before committer.mu
	index  index
	recent recent
	claims map[*queue.Claim]claim

	rerouted   bool // Reroute was called
	unreadable int  // spans of the queue that could not be read at open
	gapped     bool // there were such: what is beside the damage in them is found by the next open

	running          atomic.Bool // the engine is open
	closed           atomic.Bool
	crashed          bool // the process before did not close the queue; set at open
	failOnce         sync.Once
	failed           chan struct{} // closed when the store has failed
	failure          atomic.Pointer[error]
	backgroundErrors atomic.Int32
	corruption       chan struct{} // closed when a table was found damaged
	corruptOnce      sync.Once
	marks            sync.WaitGroup
	corruptTables    sync.Map    // path of each, to true
	tables           atomic.Bool // a table was written since space was last given back

	loaded   chan struct{}     // closed when the queue has been read
	loadErr  error             // why not all of it; guarded by mu
	settled  map[queue.ID]bool // what is forgotten while it is read again; guarded by mu
	stopScan context.CancelFunc
	ended    chan struct{}
}

// routing is a way to find a recipient's destination, numbered.
type routing struct {
	destination func(queue.ForwardPath) queue.Destination
	number      uint8
	longest     time.Duration // no schedule waits for longer
}

// Open opens the queue in o.Dir, or makes it. It returns before everything
// queued is read, so that mail is taken at once: what was queued before
// becomes due in the course of the first seconds.
//
// ErrLocked says that another process has it open, ErrKeys that the keys do
// not fit, ErrFormat that another release wrote it.
func Open(o Options) (s *Store, err error) {
	s = &Store{
		opts:    o.withDefaults(),
		claims:  make(map[*queue.Claim]claim),
		streams: streams{ids: make(map[queue.ID]bool)},
		failed:  make(chan struct{}),

		corruption: make(chan struct{}),
		loaded:     make(chan struct{}),
		trim:       make(chan chan struct{}),
		ended:      make(chan struct{}),
	}
	s.index.init()
	s.senders.init()
	s.recent.init(s.opts.MemoryBudget)
	s.keep.init()
	s.routing.Store(&routing{destination: o.Destination, longest: s.opts.LongestWait})

	inner := s.opts.FS
	s.fs = vfs.OnDiskFull(inner, s.space.full)
	if err := makeFolder(s.fs, o.Dir); err != nil {
		return nil, fmt.Errorf("make the queue's folder: %w", err)
	}
	lock, err := pebble.LockDirectory(o.Dir, s.fs)
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w: %w", queue.ErrLocked, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	s.synced.init(s.fs, o.Dir)
	s.space.init(inner, o.Dir, s.opts.MinFree, s.opts.Events)
	if err := s.openContents(); err != nil {
		return nil, err
	}
	if s.keys, err = openKeyring(s.fs, o.KeyDir, s.opts.MasterKey); err != nil {
		return nil, errors.Join(err, s.contentFolder.Close())
	}
	if err := s.openEngine(lock); err != nil {
		return nil, errors.Join(err, s.keys.close(), s.contentFolder.Close())
	}
	_ = lock.Close() // the engine holds it now
	s.start()
	return s, nil
}

func (s *Store) openContents() (err error) {
	s.contents = s.fs.PathJoin(s.opts.Dir, contentDir)
	if err := makeFolder(s.fs, s.contents); err != nil {
		return fmt.Errorf("make the content folder: %w", err)
	}
	if s.contentFolder, err = s.fs.OpenDir(s.contents); err != nil {
		return fmt.Errorf("open the content folder: %w", err)
	}
	return nil
}

func (s *Store) openEngine(lock *pebble.Lock) (err error) {
	s.cache = pebble.NewCache(cacheSize)
	opts := engineOptions(s, guardFS{s.fs, s}, s.cache)
	opts.Lock = lock
	if err = s.finishSalvage(); err == nil {
		s.db, err = s.openOrSalvage(opts)
	}
	if err == nil {
		err = s.failedError() // the engine tells its logger only
	}
	if err != nil {
		s.cache.Unref()
		return fmt.Errorf("open the queue's engine: %w", err)
	}
	if err := s.readMeta(); err != nil {
		return errors.Join(err, s.closeDB())
	}
	if err := s.recoverOutcomes(); err != nil {
		return errors.Join(err, s.closeDB())
	}
	s.synced.begin()
	return nil
}

// openOrSalvage opens the engine, and reads around the damage where it is damaged.
func (s *Store) openOrSalvage(opts *pebble.Options) (db *pebble.DB, err error) {
	if err = s.examine(); err == nil {
		db, err = s.openDB(s.opts.Dir, opts)
		if err != nil && s.removeUnborn() {
			db, err = s.openDB(s.opts.Dir, opts)
		}
		if err != nil && s.damagedOptions(opts) {
			db, err = s.openDB(s.opts.Dir, opts)
		}
	}
	if err == nil || !s.salvageable(err) {
		return db, err
	}
	if err := s.salvage(err); err != nil {
		return nil, err
	}
	return s.openDB(s.opts.Dir, opts)
}

// readMeta reads what the engine holds beside messages, and writes the format
// into a new queue. One of a newer release is refused and not touched.
func (s *Store) readMeta() error {
	v, err := s.get([]byte(keyFormat))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		if err := s.db.Set([]byte(keyFormat), []byte{queueFormat}, pebble.Sync); err != nil {
			return fmt.Errorf("write the queue: %w", err)
		}
		if err := s.failedError(); err != nil {
			return err // the engine tells its logger only
		}
	case pebble.IsCorruptionError(err):
		// The messages beside it may be fine, and each says how it is sealed.
		s.opts.Events(Event{Kind: EventScan, Err: fmt.Errorf("read the queue: %w", err)})
	case err != nil:
		return fmt.Errorf("read the queue: %w", err)
	case len(v) != 1 || v[0] != queueFormat:
		return ErrFormat
	}
	v, err = s.get([]byte(keyRetries))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case pebble.IsCorruptionError(err):
		s.retries.Store(lostRetries)
	case err != nil:
		return fmt.Errorf("read the queue: %w", err)
	case len(v) == 8:
		s.retries.Store(binary.BigEndian.Uint64(v))
	}
	return nil
}

// removeUnborn removes what a crash has left of an engine in the making, which
// the engine itself cannot open. Where there is a table, or a log with
// anything in it, that is not so, and nothing is touched.
func (s *Store) removeUnborn() bool {
	names, err := s.fs.List(s.opts.Dir)
	if err != nil {
		return false
	}
	var unborn []string
	for _, name := range names {
		path := s.fs.PathJoin(s.opts.Dir, name)
		switch {
		case name == contentDir || name == ballastName || name == syncedName || name == "LOCK" || strings.HasPrefix(name, outcomePrefix):
			continue
		case strings.HasSuffix(name, ".log"):
			if info, err := s.fs.Stat(path); err != nil || info.Size() > 0 {
				return false
			}
		case !strings.HasPrefix(name, "MANIFEST-") && !strings.HasPrefix(name, "OPTIONS-") && !strings.HasPrefix(name, "marker."):
			return false
		}
		unborn = append(unborn, path)
	}
	for _, path := range unborn {
		if err := s.fs.Remove(path); err != nil {
			return false
		}
	}
	return true
}

// start begins the store's goroutines: the committer, the keeper, and the
// reading of what is queued.
func (s *Store) start() {
	s.running.Store(true)
	s.committer.init(s.db)
	go func() {
		defer close(s.ended)
		s.commitLoop()
	}()
	snapshot := s.db.NewSnapshot()
	ctx, cancel := context.WithCancel(context.Background())
	s.stopScan = cancel
	go func() {
		s.read(ctx, snapshot)
		close(s.loaded)
		s.opts.Wake()
	}()
	go s.keepLoop(ctx)
}

// read reads what is queued, and notes how that ended.
func (s *Store) read(ctx context.Context, snapshot *pebble.Snapshot) {
	err := errors.Join(s.scan(ctx, snapshot), snapshot.Close())
	s.mu.Lock()
	s.loadErr = err
	s.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.opts.Events(Event{Kind: EventScan, Err: err})
	}
}

// readAgain reads what is queued once more, after that has failed. What is
// settled while it works does not come back by it.
func (s *Store) readAgain(ctx context.Context) error {
	s.mu.Lock()
	s.settled = make(map[queue.ID]bool)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.settled = nil
		s.mu.Unlock()
	}()
	// What was settled before is deleted in the snapshot after this.
	if err := s.flush(); err != nil {
		return err
	}
	s.read(ctx, s.db.NewSnapshot())
	s.opts.Wake()
	return s.loadError()
}

func (s *Store) loadError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loadErr
}

// Loaded is closed when all that was queued at open is known. Until then
// operators' calls wait.
func (s *Store) Loaded() <-chan struct{} { return s.loaded }

// LoadError says why what was queued at open is not all known; nil if it is,
// or while it is read for the first time. It is read again every half minute
// until that succeeds; before, no key is destroyed.
func (s *Store) LoadError() error {
	select {
	case <-s.loaded:
		return s.loadError()
	default:
		return nil
	}
}

// Close ends the store. What was settled is forgotten at once, and the keys of
// what is still queued are kept. Nobody may be in a Put or hold a claim that
// is to be settled; such calls return ErrUnavailable.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// What has not joined a group by now is refused: its key would be gone
	// before it is counted among those that stay.
	s.committer.mu.Lock()
	s.committer.refuse = true
	s.committer.room.Broadcast()
	s.committer.mu.Unlock()
	s.stopScan()
	<-s.loaded
	close(s.keep.stop)
	if s.failedError() != nil {
		// The engine cannot be trusted, and may never return.
		return nil
	}
	<-s.keep.done
	var errs []error
	if s.loadError() == nil {
		errs = append(errs, s.endEpochs(append(s.keys.ended(), s.keys.current.Load())), s.keys.slots.scrub())
	}
	s.committer.close()
	select {
	case <-s.ended:
	case <-s.failed:
		return errors.Join(append(errs, s.failedError())...)
	}
	s.marks.Wait()
	err := s.closeDB()
	if err == nil {
		s.outcomes.close()
	}
	s.synced.end()
	errs = append(errs, err, s.keys.close(), s.contentFolder.Close())
	s.cache.Unref()
	return errors.Join(errs...)
}

func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Reroute gives every recipient its queue anew, after the configuration has
// changed. What is under delivery moves once its attempt is over.
func (s *Store) Reroute(ctx context.Context, destination func(queue.ForwardPath) queue.Destination) error {
	s.mu.Lock()
	s.routing.Store(&routing{destination: destination, number: s.routing.Load().number + 1, longest: s.opts.LongestWait})
	s.rerouted = true
	s.mu.Unlock()
	defer s.opts.Wake()
	return s.each(ctx, func(id queue.ID) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		mi, ok := s.index.byID[id]
		if !ok || s.index.msgs.at(mi).flags&msgDamaged != 0 || s.index.msgs.at(mi).routes == s.routing.Load().number {
			return nil
		}
		en, err := s.acquire(mi)
		if err != nil {
			if !errors.Is(err, queue.ErrNotFound) && !shortage(err) { // then it moves once it is claimed
				s.setAside(mi, err)
			}
			return nil
		}
		s.regroup(mi, en.env)
		s.recent.unpin(en)
		return nil
	})
}
