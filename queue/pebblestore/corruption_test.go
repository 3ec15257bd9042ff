package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"tacet/queue"
)

// rotTable is a store of n messages in one table, with a bit of its middle flipped.
func rotTable(t *testing.T, mem *vfs.MemFS, n int) {
	t.Helper()
	s := mustOpen(t, memOptions(mem))
	for range n {
		if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(2000), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, memOptions(mem))
	<-s.Loaded()
	if err := s.flushTables(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("data/queue")
	if err != nil {
		t.Fatal(err)
	}
	flips := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		info, err := mem.Stat("data/queue/" + name)
		if err == nil {
			err = flip(mem, "data/queue/"+name, info.Size()/2)
		}
		if err != nil {
			t.Fatal(err)
		}
		flips++
	}
	if flips == 0 {
		t.Fatal("there is no table")
	}
}

// TestCorruptCompaction: a damaged table is met by compactions again and
// again. None of them ends the process or the store, all of them end, and mail
// is taken.
func TestCorruptCompaction(t *testing.T) {
	mem := vfs.NewMem()
	rotTable(t, mem, 100)
	var ev events
	o := memOptions(mem)
	o.Events = ev.add
	s := mustOpen(t, o)
	<-s.Loaded()
	if got := deliverAll(t, s); len(got) < 90 {
		t.Fatalf("%d of 100 were delivered", len(got))
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.flushTables(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// Straight to the engine: the store itself would not begin it.
	if err := s.db.Compact(ctx, []byte{prefixContent}, []byte{prefixState + 1}, false); err == nil {
		t.Error("a compaction has read a damaged table")
	}
	for range 3 * maxBackgroundErrors {
		s.backgroundError(pebble.ErrCorruption)
	}
	if err := s.compactTables(); err != nil {
		t.Error(err)
	}
	if more, _ := (&scheduler{corrupt: s.isCorrupt}).TrySchedule(); more {
		t.Error("the engine is let go on with a compaction that cannot end")
	}
	if !s.Corrupt() {
		t.Error("health does not hear of it")
	}
	if err := s.failedError(); err != nil {
		t.Fatal(err)
	}
	if ev.count(EventBackground) == 0 {
		t.Error("nobody was told")
	}
	if n := ev.count(EventBackground); n > 5 {
		t.Errorf("it was told %d times", n)
	}
	if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(2000), nil); err != nil {
		t.Fatal(err)
	}
	if got := deliverAll(t, s); len(got) != 1 {
		t.Errorf("%d were delivered", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	<-s.Loaded()
	if ev.count(EventSalvaged) != 1 || s.Corrupt() {
		t.Errorf("the next start left the damage where it was: %v", ev.list)
	}
	if err := s.db.Compact(t.Context(), []byte{prefixContent}, []byte{prefixState + 1}, false); err != nil {
		t.Error(err)
	}
}

// TestDamagedOptions: without the engine's notes about its options the queue
// opens all the same.
func TestDamagedOptions(t *testing.T) {
	for what, damage := range map[string]func([]byte) []byte{
		"no section": func(b []byte) []byte { return append([]byte("k"), b[1:]...) },
		"no value":   func(b []byte) []byte { return bytes.Replace(b, []byte("comparer="), []byte("comparer-"), 1) },
		"other":      func(b []byte) []byte { return bytes.Replace(b, []byte("comparer=l"), []byte("comparer=m"), 1) },
		"half":       func(b []byte) []byte { return b[:len(b)/2] },
		"empty":      func(b []byte) []byte { return b[:0] },
	} {
		t.Run(what, func(t *testing.T) {
			mem := vfs.NewMem()
			s := mustOpen(t, memOptions(mem))
			if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(2000), nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			names, err := mem.List("data/queue")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if !strings.HasPrefix(name, "OPTIONS-") {
					continue
				}
				b, err := readFile(mem, "data/queue/"+name)
				if err != nil {
					t.Fatal(err)
				}
				f, err := mem.Create("data/queue/"+name, writeCategory)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(damage(b)); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				s = mustOpen(t, memOptions(mem))
				<-s.Loaded()
				if st := s.Stats(); st.Messages != 1 || st.Damaged != 0 {
					t.Errorf("%+v", st)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestUnreadQueue: where the queue could not be read whole at open, no key is
// destroyed, and the operator hears of both. It is read again, without a
// restart; what was settled meanwhile does not come back by that.
func TestUnreadQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		s := mustOpen(t, memOptions(mem))
		<-s.Loaded() // so that the keys move to slots
		for range 3 {
			if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(2000), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var broken atomic.Bool
		broken.Store(true)
		failure := errors.New("the disk is broken")
		var ev events
		o := memOptions(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, slotName) && op.Offset > 0 {
				return failure
			}
			return nil
		})))
		o.Events = ev.add
		s = mustOpen(t, o)
		<-s.Loaded()
		if err := s.LoadError(); !errors.Is(err, failure) {
			t.Fatalf("the reading ended in %v", err)
		}
		if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(2000), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keyRetry + time.Second)
		if ev.count(EventScan) != 2 || ev.count(EventKeys) != 1 || s.LoadError() == nil {
			t.Errorf("told were %+v", ev.list)
		}
		if got := deliverAll(t, s); len(got) != 1 {
			t.Errorf("%d were delivered of what came since", len(got))
		}
		broken.Store(false)
		time.Sleep(keyRetry)
		if err := s.LoadError(); err != nil {
			t.Fatal(err)
		}
		if got := deliverAll(t, s); len(got) != 3 {
			t.Errorf("%d were delivered", len(got))
		}
		time.Sleep(o.withDefaults().Epoch + scrubDelay + 2*time.Second)
		s.keys.slots.mu.Lock()
		used := s.keys.slots.used
		s.keys.slots.mu.Unlock()
		if used != 0 || len(s.keys.ended()) != 0 {
			t.Errorf("%d slots and %d epochs are left", used, len(s.keys.ended()))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReadAgain: what is settled while the queue is read again is not given
// out once more.
func TestReadAgain(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	<-s.Loaded()
	for range 200 {
		if err := s.Put(t.Context(), benchMessage(time.Now()), crashContent(100), nil); err != nil {
			t.Fatal(err)
		}
	}
	// As readAgain does it, with deliveries in the worst moment.
	s.mu.Lock()
	s.settled = make(map[queue.ID]bool)
	s.mu.Unlock()
	snapshot := s.db.NewSnapshot()
	if got := deliverAll(t, s); len(got) != 200 {
		t.Errorf("%d were delivered", len(got))
	}
	s.read(t.Context(), snapshot)
	if err := s.LoadError(); err != nil {
		t.Fatal(err)
	}
	if got := deliverAll(t, s); len(got) != 0 {
		t.Errorf("%d were delivered once more", len(got))
	}
}
