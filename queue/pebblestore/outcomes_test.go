package pebblestore

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
	"tacet/queue/queuetest"
)

// What was delivered is not delivered again after the process was killed in
// the moment between the settlement and the group it rides with. The clone of
// the file system has all that was written, synced or not, and nothing of the process.
func TestOutcomesSurviveKill(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, memOptions(mem))
	put := func(to ...queue.ForwardPath) *queue.Envelope {
		e := &queue.Envelope{ID: queue.NewID(time.Now()), Arrived: time.Now(), Sender: "a@example.org"}
		for _, p := range to {
			e.Recipients = append(e.Recipients, queue.Recipient{Path: p})
		}
		if err := s.Put(t.Context(), e, []byte("content\r\n"), nil); err != nil {
			t.Fatal(err)
		}
		return e
	}
	whole, part, left := put("b@one.example"), put("b@one.example", "c@two.example"), put("d@two.example")
	one := queuetest.Destination("b@one.example")
	for range 2 {
		c, err := s.Claim(t.Context(), one, time.Now())
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		out := []queue.Outcome{{Recipient: c.Recipients[0], State: queue.Delivered}}
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: out}); err != nil {
			t.Fatal(err)
		}
	}
	killed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: testRNG()})

	after := mustOpen(t, memOptions(killed))
	<-after.Loaded()
	if _, err := after.Get(t.Context(), whole.ID); err == nil {
		t.Error("a message that was delivered is queued again")
	}
	e, err := after.Get(t.Context(), part.ID)
	if err != nil {
		t.Fatal(err)
	}
	if e.Recipients[0].State != queue.Delivered || e.Recipients[1].State != queue.Waiting {
		t.Errorf("recipients %v and %v, want delivered and waiting", e.Recipients[0].State, e.Recipients[1].State)
	}
	if _, err := after.Get(t.Context(), left.ID); err != nil {
		t.Errorf("a message that was not delivered: %v", err)
	}
	if c, err := after.Claim(t.Context(), one, time.Now()); c != nil || err != nil {
		t.Errorf("claim %v, %v where all is delivered", c, err)
	}
}

// The files of outcomes stay small, whatever passes through the queue.
func TestOutcomesBeginAnew(t *testing.T) {
	mem := vfs.NewMem()
	o := memOptions(mem)
	s := mustOpen(t, o)
	for range 3 * outcomesMax / outcomeSize / 16 {
		e := &queue.Envelope{ID: queue.NewID(time.Now()), Arrived: time.Now(), Sender: "a@example.org"}
		for range 16 {
			e.Recipients = append(e.Recipients, queue.Recipient{Path: "b@one.example"})
		}
		if err := s.Put(t.Context(), e, []byte("x\r\n"), nil); err != nil {
			t.Fatal(err)
		}
		c, err := s.Claim(t.Context(), queuetest.Destination("b@one.example"), time.Now())
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		var out []queue.Outcome
		for _, i := range c.Recipients {
			out = append(out, queue.Outcome{Recipient: i, State: queue.Delivered})
		}
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: out}); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	names, err := mem.List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if len(name) > len(outcomePrefix) && name[:len(outcomePrefix)] == outcomePrefix {
			info, err := mem.Stat(mem.PathJoin(o.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
		}
	}
	if most := int64(2*outcomesMax + 1<<12); total > most {
		t.Errorf("%d octets of outcomes, want at most %d", total, most)
	}
}

// TestSlotsReadTwice: what was delivered before a kill is looked up in the
// slots before the queue is read, which reads them again. No slot is given to
// two messages by that.
func TestSlotsReadTwice(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	for range 8 { // some slots that are free then
		if err := s.Put(t.Context(), benchMessage(time.Now()), []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
	}
	<-s.Loaded()
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	deliverAll(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, memOptions(mem))
	<-s.Loaded()
	if _, err := s.keys.slots.load(); err != nil {
		t.Fatal(err)
	}
	ids := make([]queue.ID, 12)
	for i := range ids {
		ids[i] = queue.NewID(time.Now())
	}
	slots, err := s.keys.slots.put(ids, func(b []byte, _ queue.ID) []byte { return append(b, make([]byte, keySize)...) })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(slots)
	if len(slices.Compact(slots)) != len(ids) {
		t.Errorf("12 messages have the slots %v", slots)
	}
	s.keys.slots.release(slots...)
}
