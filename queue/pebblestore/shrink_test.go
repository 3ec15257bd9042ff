package pebblestore

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// TestShrinkFails has each step of replacing a large slot file fail in turn:
// what is queued afterwards survives a restart all the same.
func TestShrinkFails(t *testing.T) {
	for fail := int32(1); ; fail++ {
		mem := vfs.NewMem()
		var armed atomic.Bool
		var steps atomic.Int32
		o := memOptions(&opFS{FS: mem, before: func(o op) error {
			if armed.Load() && strings.Contains(o.name, slotName) && steps.Add(1) == fail {
				return errors.New("too many open files")
			}
			return nil
		}})
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		<-s.Loaded()
		fillSlots(t, s)
		armed.Store(true)
		shrinkErr := s.keys.slots.scrub()
		if shrinkErr == nil && s.keys.slots.dirty() {
			t.Error("slots of settled messages are left")
		}
		reached := steps.Load() >= fail
		armed.Store(false)
		e := benchMessage(time.Now())
		if err := s.Put(t.Context(), e, []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readable(t, mem); !got[e.ID] {
			t.Errorf("step %d failed with %v: what was queued afterwards cannot be read", fail, shrinkErr)
		}
		if !reached {
			if fail < 3 {
				t.Fatalf("the file was replaced in %d steps", fail-1)
			}
			return
		}
	}
}

// fillSlots uses more slots than an unused file may have, and gives them up.
func fillSlots(t *testing.T, s *Store) {
	t.Helper()
	ids := make([]queue.ID, shrinkSlots+1)
	for i := range ids {
		ids[i] = queue.NewID(time.Now())
	}
	slots, err := s.keys.slots.put(ids, func(b []byte, _ queue.ID) []byte { return append(b, make([]byte, keySize)...) })
	if err != nil {
		t.Fatal(err)
	}
	s.keys.slots.release(slots...)
}
