package logging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// The errors that [Log.Err] and [Log.Write] can give, beside those of the
// file system.
var (
	ErrClosed  = errors.New("relay log: closed")
	ErrBacklog = errors.New("relay log: the disk does not keep up, over half of the buffer is full")
)

const (
	defaultBuffer = 8 << 20
	minBuffer     = 64 << 10
	gatherFor     = 5 * time.Millisecond // the longest a line waits for company while the disk is well
	maxRetention  = 365                  // days
)

// Options say where and for how long the relay log is kept.
type Options struct {
	Dir        string        // made with mode 0750 if it is missing
	Retention  time.Duration // whole days; 0: 365 days, which is also the most
	Buffer     int           // octets kept in memory while the disk is slow; 0: 8 MiB
	Operations *Operations   // told of failure and recovery; nil: nobody

	// KeyDir is the folder of the keys, one for each encrypted file. It is made
	// with mode 0700, belongs in no backup, and is for one Log at a time. With it,
	// days that are over are sealed: compressed and encrypted. Empty: they stay as
	// they are.
	KeyDir string

	// LiveSealed has the running day encrypted too. It needs a KeyDir.
	LiveSealed bool

	// For how long these fields of a record are kept, in whole days, less than
	// Retention; 0: as long as the record. They need a KeyDir. With the subject go
	// the header fields of content rejections, which repeat it.
	RetentionSubject, RetentionClient, RetentionUser time.Duration

	// For how long records of failed logins and TLS handshakes are kept, which tell of
	// no mail; as those before.
	RetentionLogins time.Duration
}

// Log is the relay log. Its methods are safe for concurrent use.
type Log struct {
	enc    *encoder
	ops    *Operations
	limit  int
	turn   sync.Mutex // to use writer and spare; taken before mu, but for TryLock
	writer writer
	spare  batch // memory for what is pending next
	keeper keeper

	upkeep    chan struct{}      // there may be something to seal, or to delete
	aside     chan asideRequest  // for the flushing goroutine
	endUpkeep context.CancelFunc // ends what the keeper does
	tasks     sync.WaitGroup     // of upkeep

	mu       sync.Mutex
	moved    sync.Cond // taken, flushed, failing or closed changed
	pending  batch
	inflight int    // octets taken and not yet written
	taken    uint64 // octets ever put into pending
	flushed  uint64 // octets ever written
	err      error  // why the last write failed; nil after one that did not
	closing  bool

	wake    chan struct{} // pending is no longer empty
	urgent  chan struct{} // somebody waits: gather no longer
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the flushing goroutine
	givenUp int           // records, by the flushing goroutine alone
	lost    error         // set before stopped is closed
}

// batch is lines that go to disk together: data, and where a day ends in it.
type batch struct {
	data []byte
	days []dayEnd
}

type dayEnd struct {
	day day
	end int
}

// Open makes the log's directory if need be, repairs the end of today's file,
// deletes what is past its retention, and takes records from then on.
// A retention of more than 365 days or less than one is an error.
func Open(o Options) (*Log, error) {
	if o.Retention == 0 {
		o.Retention = maxRetention * 24 * time.Hour
	}
	days := int(o.Retention / (24 * time.Hour))
	switch {
	case o.Retention > maxRetention*24*time.Hour:
		return nil, fmt.Errorf("relay log: a retention of %d days is longer than the %d days allowed", days, maxRetention)
	case days < 1:
		return nil, errors.New("relay log: a retention must be at least one day")
	}
	fields, err := o.fields()
	if err != nil {
		return nil, err
	}
	if o.LiveSealed && o.KeyDir == "" {
		return nil, errors.New("relay log: an encrypted running day needs a folder of keys")
	}
	keys := &keyring{dir: o.KeyDir}
	l := &Log{
		enc:     newEncoder(),
		ops:     o.Operations,
		limit:   max(o.Buffer, minBuffer),
		writer:  writer{dir: o.Dir, ops: o.Operations, keys: keys, sealed: o.LiveSealed},
		keeper:  keeper{dir: o.Dir, keys: keys, keep: days, fields: fields, ops: o.Operations},
		upkeep:  make(chan struct{}, 1),
		aside:   make(chan asideRequest),
		wake:    make(chan struct{}, 1),
		urgent:  make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if o.Buffer == 0 {
		l.limit = defaultBuffer
	}
	l.moved.L = &l.mu
	if err := l.writer.open(dayOf(time.Now())); err != nil {
		return nil, fmt.Errorf("relay log: %w", err)
	}
	if err := l.keeper.recover(); err != nil {
		l.ops.Log(OpSealFailed, Err(err))
	}
	l.keeper.sweep(time.Now())
	ctx, cancel := context.WithCancel(context.Background())
	l.endUpkeep = cancel
	l.tasks.Go(func() { l.maintain(ctx) })
	go l.run()
	return l, nil
}

// Write takes a record into the log. It blocks only while the buffer is full,
// and never drops a record: after Close it returns [ErrClosed]. A record is in
// the file some milliseconds later; to wait for that, call [Log.Flush].
func (l *Log) Write(r *Record) error {
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	line := l.enc.encode(r, at)
	defer line.free()
	size := len(line.bytes())

	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closing && l.inflight+len(l.pending.data)+size > l.limit {
		l.moved.Wait()
	}
	if l.closing {
		return ErrClosed
	}
	l.pending.add(dayOf(at), line.bytes())
	l.taken += uint64(size)
	if len(l.pending.data) == size {
		notify(l.wake)
	}
	return nil
}

func (b *batch) add(d day, lines []byte) {
	b.data = append(b.data, lines...)
	if n := len(b.days); n > 0 && b.days[n-1].day == d {
		b.days[n-1].end = len(b.data)
		return
	}
	b.days = append(b.days, dayEnd{d, len(b.data)})
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Err tells why the log cannot be written now, and nil if it can. While it is
// not nil, records are kept in memory, writing is tried again and again, and
// no mail should be taken.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closing:
		return ErrClosed
	case l.err != nil:
		return l.err
	case l.inflight+len(l.pending.data) > l.limit/2:
		return ErrBacklog
	}
	return nil
}

// Healthy tells whether the log can be written.
func (l *Log) Healthy() bool { return l.Err() == nil }

// Stats counts what the log has seen since it was opened.
type Stats struct {
	Written  uint64 // octets in files
	Buffered int    // octets in memory
	Cut      uint64 // values that were longer than their field
	Dropped  uint64 // values that their field or event does not allow
}

// Stats gives the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Written:  l.flushed,
		Buffered: l.inflight + len(l.pending.data),
		Cut:      l.enc.cut.Load(),
		Dropped:  l.enc.dropped.Load(),
	}
}

// Flush waits until all records written before are in their files, so that
// they survive the end of the process (not of the machine). It ends with an
// error as soon as writing fails, or with ctx.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	target := l.taken
	if l.flushed >= target {
		return nil
	}
	notify(l.urgent)
	defer context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.moved.Broadcast()
	})()
	for l.flushed < target {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.err != nil {
			return l.err
		}
		if l.closing {
			return ErrClosed
		}
		l.moved.Wait()
	}
	return nil
}

// Secure sees to it that all records written before are in their files, so
// that they survive the end of the process. The first who calls it writes for all
// that come at the same time. It does not wait for a disk that takes nothing:
// Err tells of that, and the records stay in memory.
func (l *Log) Secure() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for target := l.taken; l.flushed < target && l.err == nil && !l.closing; {
		if !l.turn.TryLock() {
			l.moved.Wait()
			continue
		}
		// Sessions whose mail was synced together come together. A write costs more than
		// to let those that are ready add their lines to it.
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
		b := l.swap(l.spare)
		l.mu.Unlock()
		l.spare = l.writeOnce(b)
		l.turn.Unlock()
		l.mu.Lock()
		l.moved.Broadcast()
	}
}

// swap takes what is pending, and leaves spare in its place. l.mu is held.
func (l *Log) swap(spare batch) batch {
	b := l.pending
	l.pending = batch{spare.data[:0], spare.days[:0]}
	l.inflight = len(b.data)
	return b
}

// writeOnce writes a batch; what the disk does not take is pending again. It
// gives back the memory that is free then. l.turn is held.
func (l *Log) writeOnce(b batch) batch {
	if len(b.data) == 0 {
		return b
	}
	rest, err := l.writer.write(b)
	l.wrote(len(b.data)-len(rest.data), err)
	if len(rest.data) == 0 {
		if cap(b.data) > 1<<20 {
			return batch{}
		}
		return b
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := 0
	for _, d := range l.pending.days {
		rest.add(d.day, l.pending.data[from:d.end])
		from = d.end
	}
	l.pending, l.inflight = rest, 0
	notify(l.wake)
	return batch{}
}

// Close writes what is still in memory, tries a failed write once more, and
// ends the log. Its error tells that records were lost.
func (l *Log) Close() error {
	l.mu.Lock()
	already := l.closing
	l.closing = true
	l.moved.Broadcast()
	l.mu.Unlock()
	if !already {
		close(l.stop)
	}
	l.endUpkeep()
	l.tasks.Wait()
	<-l.stopped
	return l.lost
}

// run writes what is pending, keeps a file for the running day, and deletes
// old files, until Close.
func (l *Log) run() {
	defer close(l.stopped)
	clock := newClock(l.ops)
	tick := time.NewTimer(clock.untilTick())
	defer tick.Stop()
	var last time.Time
	l.inTurn(func() { l.setAside(time.Now()) })
	for {
		select {
		case <-l.wake:
			l.gather(last)
			l.inTurn(l.flush)
			last = time.Now()
		case <-tick.C:
			if hourly := clock.tick(); hourly {
				notify(l.upkeep)
			}
			l.inTurn(func() {
				l.writer.follow(time.Now())
				l.setAside(time.Now())
			})
			tick.Reset(clock.untilTick())
		case request := <-l.aside:
			l.inTurn(func() {
				l.flush()
				_, err := l.writer.setAside(request.which)
				request.done <- err
			})
		case <-l.stop:
			l.inTurn(func() {
				l.flush()
				l.lost = l.writer.close(l.givenUp)
			})
			return
		}
	}
}

// inTurn does something with the writer, alone.
func (l *Log) inTurn(do func()) {
	l.turn.Lock()
	do()
	l.turn.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved.Broadcast() // who waits for a turn may try again
}

// gather waits for more lines if some were written just now, so that a busy
// relay does not pay for a write per line.
func (l *Log) gather(last time.Time) {
	wait := gatherFor - time.Since(last)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.urgent:
	case <-l.stop:
	}
}

// flush writes all that is pending, as often as it takes. l.turn is held.
func (l *Log) flush() {
	l.mu.Lock()
	b := l.swap(l.spare)
	l.mu.Unlock()
	l.spare = b
	if len(b.data) == 0 {
		return
	}
	rest, more := b, true
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		before := len(rest.data)
		var err error
		rest, err = l.writer.write(rest)
		l.wrote(before-len(rest.data), err)
		if err == nil || !more {
			break
		}
		more = l.pause(wait)
	}
	l.givenUp += bytes.Count(rest.data, newline)
	if cap(b.data) > 1<<20 {
		l.spare = batch{}
	}
}

// wrote takes note of n octets written and of how it went.
func (l *Log) wrote(n int, err error) {
	l.mu.Lock()
	before := l.err
	l.err = err
	l.flushed += uint64(n)
	l.inflight -= n
	l.moved.Broadcast()
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.ops.Log(OpLogFailed, Err(err))
	case err == nil && before != nil:
		l.ops.Log(OpLogRecovered)
	}
}

// pause waits before a failed write is tried again, and tells whether to.
func (l *Log) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.stop:
		return false
	}
}
