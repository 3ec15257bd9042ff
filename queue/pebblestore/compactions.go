package pebblestore

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// scheduler lets the engine rewrite tables, one compaction at a time, until a
// table is found damaged: a compaction does not get beyond the damage, and
// would be tried again and again. Reading and writing go on.
type scheduler struct {
	corrupt func() bool

	calls   sync.RWMutex // held to read around calls of the engine, which must not come after Unregister
	mu      sync.Mutex
	db      pebble.DBForCompaction
	running bool
	refused bool // TrySchedule was refused meanwhile
	ended   bool
}

// Register implements pebble.CompactionScheduler.
func (c *scheduler) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// Unregister implements pebble.CompactionScheduler.
func (c *scheduler) Unregister() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.calls.Lock() // waits for those who call the engine
	defer c.calls.Unlock()
}

// TrySchedule implements pebble.CompactionScheduler.
func (c *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.running || c.corrupt() {
		c.refused = true
		return false, nil
	}
	c.running = true
	return true, c
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler: it is always one.
func (c *scheduler) UpdateGetAllowedWithoutPermission() {}

// Started implements pebble.CompactionGrantHandle.
func (c *scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (c *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (c *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle: what waits is next.
func (c *scheduler) Done() {
	c.calls.RLock()
	defer c.calls.RUnlock()
	for again := true; again; {
		c.mu.Lock()
		c.running, c.refused = false, false
		if c.ended || c.corrupt() {
			c.mu.Unlock()
			return
		}
		c.running = true
		c.mu.Unlock()
		if waiting, _ := c.db.GetWaitingCompaction(); waiting && c.db.Schedule(c) {
			return
		}
		// Whoever came meanwhile was refused for nothing.
		c.mu.Lock()
		if again = c.refused; !again {
			c.running = false
		}
		c.mu.Unlock()
	}
}
