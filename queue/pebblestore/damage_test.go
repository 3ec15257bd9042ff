package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// delivered delivers everything and returns the contents by ID. A content
// that ends in an error is not delivered.
func deliverAll(t *testing.T, s *Store) map[queue.ID][]byte {
	t.Helper()
	got := make(map[queue.ID][]byte)
	for {
		ready, _ := s.Due(time.Now().Add(time.Hour))
		if len(ready) == 0 {
			return got
		}
		c, err := s.Claim(t.Context(), ready[0], time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if c == nil {
			continue // what was due turned out damaged
		}
		r, err := c.Content.Reader()
		if err != nil {
			s.Release(c)
			continue
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			if !errors.Is(err, queue.ErrDamaged) {
				t.Fatal(err)
			}
			s.Release(c)
			continue
		}
		got[c.Envelope.ID] = b
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{{State: queue.Delivered}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamage flips bits of every file that holds messages, after they have
// been written out. Each message is delivered as it was or set aside. One
// damaged block takes few with it, and after a restart none but the one that is damaged.
func TestDamage(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, memOptions(mem))
	want := make(map[queue.ID][]byte)
	for i := range 300 {
		e := benchMessage(time.Now())
		b := crashContent(2000 + i)
		var err error
		if i%50 == 49 {
			err = s.Put(t.Context(), e, b[:100], bytes.NewReader(b[100:]))
		} else {
			err = s.Put(t.Context(), e, b, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		want[e.ID] = b
	}
	for range 150 { // half of them have states
		c, err := s.Claim(t.Context(), "sink.example", time.Now())
		if err != nil || c == nil {
			t.Fatal("nothing to claim", err)
		}
		o := queue.Outcome{State: queue.Waiting, Next: time.Now().Add(time.Minute), Reply: queue.Reply{Code: 450, Text: strings.Repeat("x", 500)}}
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{o}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, memOptions(mem)) // the log is written out at open
	if err := again.flushTables(); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	flips, headers := 0, 0
	for _, dir := range []string{"data/queue", "data/queue/" + contentDir} {
		names, err := mem.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.HasSuffix(name, ".sst") && dir == "data/queue" {
				continue
			}
			path := dir + "/" + name
			info, err := mem.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			step := max(info.Size()/25, 1)
			if testing.Short() {
				step *= 3
			}
			for at := step / 2; at < info.Size()-2000; at += step {
				flips++
				fs := snapshotFS(mem)
				if err := flip(fs, path, at); err != nil {
					t.Fatal(err)
				}
				if checkDamage(t, fmt.Sprintf("%s at %d of %d", name, at, info.Size()), fs, want) > 1 {
					headers++
				}
			}
		}
	}
	if flips < 10 {
		t.Errorf("%d flips are not enough to say anything", flips)
	}
	if headers > flips/5 {
		t.Errorf("%d of %d flips cost more than one message", headers, flips)
	}
}

// blockMost is how many envelopes are in a block, at most.
const blockMost = 40

// checkDamage returns how many messages stay lost.
func checkDamage(t *testing.T, what string, fs vfs.FS, want map[queue.ID][]byte) (lost int) {
	t.Helper()
	var ev events
	o := memOptions(fs)
	o.Events = ev.add
	s, err := Open(o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	<-s.Loaded()
	got := deliverAll(t, s)
	for id, b := range got {
		if !bytes.Equal(b, want[id]) {
			t.Fatalf("%s: an altered content was delivered", what)
		}
	}
	lost = len(want) - len(got)
	if lost > 50 {
		t.Errorf("%s: %d of %d messages were set aside", what, lost, len(want))
	}
	if lost > 0 && s.Stats().Damaged == 0 {
		t.Errorf("%s: %d messages are missing, and nothing is counted as damaged", what, lost)
	}
	if lost > 0 && ev.count(EventDamaged)+ev.count(EventScan) == 0 {
		t.Errorf("%s: nobody was told", what)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	<-s.Loaded()
	defer s.Close()
	for id, b := range deliverAll(t, s) {
		if !bytes.Equal(b, want[id]) || got[id] != nil {
			t.Fatalf("%s: a message was delivered altered or once more", what)
		}
		lost--
	}
	// A block's header, some octets in a hundred, takes all of the block with it.
	if damaged := s.Stats().Damaged; lost > blockMost || damaged != lost {
		t.Errorf("%s: after a restart %d messages are missing, %d are counted as damaged", what, lost, damaged)
	}
	return lost
}

// TestDamagedIsKept: what was set aside shows in the list, is not given out,
// and can be deleted.
func TestDamagedIsKept(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	e := benchMessage(time.Now())
	if err := s.Put(t.Context(), e, nil, bytes.NewReader(make([]byte, 200<<10))); err != nil {
		t.Fatal(err)
	}
	if err := flip(mem, s.contentPath(e.ID), 100<<10); err != nil {
		t.Fatal(err)
	}
	if got := deliverAll(t, s); len(got) != 0 {
		t.Fatal("a damaged message was delivered")
	}
	if st := s.Stats(); st.Damaged != 1 || st.Messages != 1 || st.Active != 0 {
		t.Fatalf("%+v", st)
	}
	if _, err := s.RetryAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := deliverAll(t, s); len(got) != 0 {
		t.Fatal("a damaged message was delivered")
	}
	if got, err := s.Delete(context.Background(), e.ID, nil); err != nil || got.ID != e.ID {
		t.Fatal(got, err)
	}
	if st := s.Stats(); st != (queue.Stats{}) {
		t.Fatalf("%+v", st)
	}
}
