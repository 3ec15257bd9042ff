package pebblestore

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// The ballast is a file that is given up when the disk runs full, so that
// outcomes can be recorded until there is room again.
const (
	ballastName = "ballast"
	ballastSize = 4 << 20
)

// How long, and for how many octets, a look at the free space is trusted.
const (
	spaceAge  = 100 * time.Millisecond
	spaceUsed = 4 << 20
)

// space keeps a floor of free space that new mail never takes.
type space struct {
	fs     vfs.FS // that does not come back here when the disk is full
	dir    string
	floor  int64
	report func(Event)

	budget atomic.Int64 // octets that may be taken until the next look
	looked atomic.Int64 // when, in nanoseconds since 1970
	low    atomic.Bool  // below the floor

	mu      sync.Mutex
	ballast bool
	off     bool // the file system cannot tell
}

func (sp *space) init(fs vfs.FS, dir string, floor int64, report func(Event)) {
	sp.fs, sp.dir, sp.floor, sp.report = fs, dir, floor, report
	_, err := fs.Stat(sp.ballastPath())
	sp.ballast = err == nil
	sp.look()
}

func (sp *space) ballastPath() string { return sp.fs.PathJoin(sp.dir, ballastName) }

// take reserves n octets for a message, or says that there is no room.
func (sp *space) take(n int64) error {
	left := sp.budget.Add(-n)
	if left < 0 || time.Now().UnixNano()-sp.looked.Load() > int64(spaceAge) {
		sp.look()
	}
	if sp.low.Load() {
		return queue.ErrFull
	}
	return nil
}

// look asks the file system, and gives up or takes back the ballast.
func (sp *space) look() {
	if !sp.mu.TryLock() {
		return // someone looks already
	}
	defer sp.mu.Unlock()
	sp.looked.Store(time.Now().UnixNano())
	if sp.off {
		sp.budget.Store(spaceUsed)
		return
	}
	usage, err := sp.fs.GetDiskUsage(sp.dir)
	if err != nil {
		sp.off = errors.Is(err, vfs.ErrUnsupported)
		sp.budget.Store(spaceUsed)
		return
	}
	floor := sp.floor
	if floor == 0 {
		floor = min(defaultMinFree, int64(usage.TotalBytes/8))
	}
	free := int64(min(usage.AvailBytes, 1<<62))
	sp.budget.Store(min(free-floor, spaceUsed))
	low := free < floor
	if low != sp.low.Swap(low) {
		kind := EventDiskRoom
		if low {
			kind = EventDiskFull
		}
		sp.report(Event{Kind: kind})
	}
	switch {
	case sp.ballast && free < floor/2:
		sp.dropBallast()
	case !sp.ballast && free > floor+4*ballastSize:
		sp.makeBallast()
	}
}

// full is told that a write has found the disk full.
func (sp *space) full() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.looked.Store(0)
	if sp.ballast {
		sp.dropBallast()
	}
}

func (sp *space) dropBallast() {
	if sp.fs.Remove(sp.ballastPath()) == nil {
		sp.ballast = false
	}
}

func (sp *space) makeBallast() {
	f, err := sp.fs.Create(sp.ballastPath(), writeCategory)
	if err != nil {
		return
	}
	err = f.Preallocate(0, ballastSize)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = sp.fs.Remove(sp.ballastPath())
		return
	}
	sp.ballast = true
}
