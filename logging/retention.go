package logging

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// trustGap is how many days may lie between two days of files for the one to
// vouch for the clock of the other.
const trustGap = 7

// sweep deletes the days that are past their retention.
//
// A day of records is kept for as many days as the retention has, itself being
// the first: with 365 days, 1 June is unreadable from 1 June of the next year
// on. The name alone tells the day.
//
// A wrong clock must not delete the log. There is a file for every day the
// relay was up, an empty one if nothing happened, so the files themselves tell
// whether the clock can be right: it is believed if another file of the seven
// days before leads up to today. After a jump of the clock, and likewise after
// a longer rest of the relay, nothing is deleted until its second day, and a
// clock that fell behind the newest file deletes nothing either unless days
// of its own lead up to it.
func (k *keeper) sweep(now time.Time) {
	today := dayOf(now)
	parts, err := partsIn(k.dir)
	if err != nil {
		k.ops.Log(OpRetentionFailed, Err(err))
		return
	}
	audits, err := auditFiles(k.dir)
	if err != nil {
		k.ops.Log(OpRetentionFailed, Err(err))
		return
	}
	audits = slices.DeleteFunc(audits, func(name string) bool {
		m, ok := monthOfAudit(name)
		return !ok || !due(m, today, maxRetention)
	})
	expired := slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return !due(p.day, today, k.keep) })
	if len(expired) == 0 && len(audits) == 0 {
		return
	}
	if !believable(today, daysAmong(parts)) {
		k.ops.Log(OpClockDoubted, Count(len(expired)))
		return
	}
	deleted := 0
	for _, p := range expired {
		if err := k.expire(p); err != nil {
			k.ops.Log(OpRetentionFailed, Err(err))
			continue
		}
		deleted++
	}
	if len(audits) > 0 {
		n, err := NewAudit(k.dir).WithKey(k.keys.dir).forget(audits)
		if err != nil {
			k.ops.Log(OpRetentionFailed, Err(err))
		}
		deleted += n
	}
	if deleted > 0 {
		k.ops.Log(OpRetentionDeleted, Count(deleted))
	}
}

// expire destroys a file that is past its retention: its key first, where it has one.
func (k *keeper) expire(p part) error {
	h, err := k.header(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errNoFrames), errors.Is(err, errDamaged):
		h = frameHeader{}
	case err != nil:
		return err
	}
	if h.key != (keyID{}) && k.sealing() {
		if err := k.keys.destroy(keyFile{h.day, h.key}); err != nil {
			return err
		}
	}
	return removeIfThere(filepath.Join(k.dir, p.name))
}

// due tells whether records of day d are kept no longer today.
func due(d, today day, keep int) bool { return int(today)-int(d) >= keep }

// believable tells whether files lead up to today: see [keeper.sweep].
func believable(today day, days []day) bool {
	return slices.ContainsFunc(days, func(d day) bool { return d < today && today-d <= trustGap })
}

// clock tells the flushing goroutine when to look after its files, and finds
// out when the wall clock was set or the machine slept.
type clock struct {
	ops   *Operations
	last  time.Time // by the monotonic clock
	wall  time.Time // the same moment by the wall clock
	swept time.Time
}

func newClock(ops *Operations) *clock {
	now := time.Now()
	return &clock{ops: ops, last: now, wall: now.Round(0), swept: now}
}

// clockTolerance is by how much the wall clock may stray from the monotonic
// one in a minute without being called a jump.
const clockTolerance = 10 * time.Second

// untilTick is a minute, or the time until midnight if that is less.
func (c *clock) untilTick() time.Duration {
	now := time.Now()
	return min(time.Minute, max(time.Millisecond, (dayOf(now)+1).begin().Sub(now)))
}

// tick tells whether an hour has passed since it last said so.
func (c *clock) tick() (hourly bool) {
	now := time.Now()
	jump := now.Round(0).Sub(c.wall) - now.Sub(c.last)
	if jump.Abs() > clockTolerance {
		c.ops.Log(OpClockJump, Duration(jump))
	}
	c.last, c.wall = now, now.Round(0)
	if now.Sub(c.swept) < time.Hour {
		return false
	}
	c.swept = now
	return true
}
