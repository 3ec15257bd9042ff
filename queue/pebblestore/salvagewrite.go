package pebblestore

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"tacet/queue"
)

// open makes the new engine. It has no log: a crash before it is complete
// leaves the old one as it was.
func (v *salvage) open(dir string) (err error) {
	s := v.s
	o := engineOptions(s, guardFS{s.fs, s}, s.cache)
	o.DisableWAL = true
	o.EventListener, o.Experimental.CompactionScheduler = nil, nil
	if v.db, err = s.openDB(dir, o); err != nil {
		return err
	}
	s.running.Store(true) // from here on it may hang where the disk fails
	v.batch = v.db.NewBatch()
	return nil
}

func (v *salvage) write(key, value []byte) error {
	if err := v.batch.Set(key, value, nil); err != nil {
		return err
	}
	if v.batch.Len() < maxGroupBytes {
		return nil
	}
	v.news()
	return v.apply()
}

func (v *salvage) apply() error {
	if err := v.s.engineDo(func() error { return v.db.Apply(v.batch, pebble.NoSync) }); err != nil {
		return err
	}
	v.batch.Reset()
	return v.s.failedError()
}

// finish writes what stands for messages that are lost, and what the engine
// holds beside messages.
func (v *salvage) finish() error {
	if err := v.apply(); err != nil {
		return err
	}
	if err := v.finishBroken(); err != nil {
		return err
	}
	lost := make(map[queue.ID]bool)
	for id, envelope := range v.known {
		if !envelope {
			lost[id] = true
		}
	}
	if v.lossy || v.lostOps > 0 {
		if err := v.traces(lost); err != nil {
			return err
		}
	}
	// A small message is two operations. Those that left no other trace are
	// counted under new names.
	for len(lost) < min((v.lostOps+1)/2, maxUntraced) {
		lost[queue.NewID(time.Now())] = true
	}
	for id := range lost {
		if err := v.write(recordKey(nil, prefixEnvelope, id), []byte{sealBroken}); err != nil {
			return err
		}
	}
	v.report.Lost = len(lost)
	retries, ok := v.meta[keyRetries]
	if !ok && (v.lossy || v.lostOps > 0) {
		retries, ok = operation{value: binary.BigEndian.AppendUint64(nil, lostRetries)}, true
	}
	if ok {
		if err := v.write([]byte(keyRetries), retries.value); err != nil {
			return err
		}
	}
	format := []byte{queueFormat}
	if have, ok := v.meta[keyFormat]; ok {
		format = have.value // of another release: it is refused, as before
	}
	return v.write([]byte(keyFormat), format)
}

const (
	maxUntraced = 1000 // messages that are counted for a gap in the logs

	sealBroken = 0 // stands in the place of sealVersion where a record is lost
)

// finishBroken leaves in the place of records that are not authentic something
// that is not either, so that their messages are set aside. Where the message
// is not known, the name itself may be what is damaged.
func (v *salvage) finishBroken() error {
	for key := range v.broken {
		id := queue.ID([]byte(key[1:]))
		_, keyed := v.slotOf(id)
		if _, known := v.known[id]; !known && !keyed {
			v.lostOps++
			continue
		}
		v.known[id] = v.known[id] || false
		if key[0] == prefixEnvelope {
			continue // if there is no other, it is counted as lost
		}
		_, closer, err := v.db.Get([]byte(key))
		if err == nil {
			err = closer.Close() // another copy of it is sound
		} else if errors.Is(err, pebble.ErrNotFound) {
			err = v.write([]byte(key), []byte{sealBroken})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// traces finds messages of which no record can be read: their key has a slot,
// or their content a file, and nothing says that they were settled.
func (v *salvage) traces(lost map[queue.ID]bool) error {
	trace := func(id queue.ID) {
		if _, known := v.known[id]; !known && !v.deleted[id] {
			lost[id] = true
		}
	}
	for _, e := range v.slots {
		trace(e.id)
	}
	names, err := v.s.fs.List(v.s.contents)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, err := queue.ParseID(name); err == nil {
			trace(id)
		}
	}
	return nil
}

// close makes the new engine durable.
func (v *salvage) close() error {
	err := v.apply()
	if err == nil {
		err = v.s.engineDo(v.db.Flush)
	}
	if v.s.failedError() != nil {
		return err // it may never return
	}
	v.s.running.Store(false)
	return errors.Join(err, v.batch.Close(), closeEngine(v.db), v.s.failedError())
}
