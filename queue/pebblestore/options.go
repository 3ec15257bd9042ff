package pebblestore

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// Options say how a store is opened. Dir, KeyDir and Destination are needed.
type Options struct {
	Dir    string // the engine's folder: data_dir/queue
	KeyDir string // the keys' folder: data_dir/keys. Never in a backup

	// Destination tells in which queue a recipient waits. It is asked at Put,
	// at open and by Reroute; its answer is never written. It must be cheap,
	// and may be called from several goroutines.
	Destination func(queue.ForwardPath) queue.Destination

	FS        vfs.FS // nil: the operating system's
	MasterKey []byte // 32 octets; nil: the file "master" in KeyDir, made at first open

	// MemoryBudget bounds the octets of recent small contents that are kept
	// in memory until they are delivered. 0: 32 MiB.
	MemoryBudget int64

	// MinFree is the free space in octets that a Put leaves on the disk. 0:
	// 64 MiB, or an eighth of a disk smaller than 512 MiB.
	MinFree int64

	// LongestWait is the longest wait that the schedule knows. What is to wait
	// for longer was stamped by a wrong clock, and is due at once. 0: 8 days.
	LongestWait time.Duration

	// Epoch is how long the keys of delivered messages may live, about. 0: 5 minutes.
	Epoch time.Duration

	// Events is told of operational trouble. It must not block.
	Events func(Event)

	// Wake is called when something became due other than by a Put, a Settle
	// or the clock: after open, by an operator's word, or by Reroute. It must not block.
	Wake func()

	// Fatal is called once, in a goroutine of its own, when the store has
	// failed: nothing can be written any more until the process starts anew.
	Fatal func()
}

// EventKind is what kind of trouble an Event tells of.
type EventKind uint8

// The kinds of events.
const (
	EventDiskFull   EventKind = iota // free space fell below MinFree: new mail is refused
	EventDiskRoom                    // there is room again
	EventDamaged                     // a message does not match its checksum and was set aside
	EventFailed                      // the store takes no more writes: see Options.Fatal
	EventBackground                  // the engine met an error beside any message, and tries again
	EventKeys                        // keys could not be moved or destroyed; tried again
	EventScan                        // queued messages could not be read at open
	EventSalvaging                   // files are damaged: what can be read of them is being copied. Told now and then while that lasts
	EventSalvaged                    // that is done, see Event.Salvaged
)

func (k EventKind) String() string {
	switch k {
	case EventDiskFull:
		return "disk_full"
	case EventDiskRoom:
		return "disk_room"
	case EventDamaged:
		return "damaged"
	case EventFailed:
		return "failed"
	case EventBackground:
		return "background_error"
	case EventKeys:
		return "key_error"
	case EventScan:
		return "scan_error"
	case EventSalvaging:
		return "salvaging"
	case EventSalvaged:
		return "salvaged"
	}
	return "unknown"
}

// Event is trouble that an operator should hear of. It names no person: Err
// speaks of files and the disk, ID is set for EventDamaged, and Salvaged for
// EventSalvaging, as far as it is, and EventSalvaged.
type Event struct {
	Kind     EventKind
	ID       queue.ID
	Err      error
	Salvaged Salvaged
}

// Limits and defaults.
const (
	maxRecipients = 1 << 16 // of one message: a recipient's number takes two octets of its key

	defaultBudget  = 32 << 20
	defaultMinFree = 64 << 20
	defaultEpoch   = 5 * time.Minute

	defaultLongestWait = 8 * 24 * time.Hour
)

func (o *Options) withDefaults() Options {
	d := *o
	if d.FS == nil {
		d.FS = vfs.Default
	}
	if d.MemoryBudget == 0 {
		d.MemoryBudget = defaultBudget
	}
	if d.LongestWait == 0 {
		d.LongestWait = defaultLongestWait
	}
	if d.Epoch == 0 {
		d.Epoch = defaultEpoch
	}
	if d.Events == nil {
		d.Events = func(Event) {}
	}
	if d.Wake == nil {
		d.Wake = func() {}
	}
	if d.Fatal == nil {
		d.Fatal = func() {}
	}
	return d
}
