package pebblestore

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

const canary = "CANARY-7f3a9c51d2"

// snapshotFS is a copy of everything as it stands.
func snapshotFS(mem *vfs.MemFS) *vfs.MemFS {
	return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: testRNG()})
}

// withKeys is everything of data but the key folder, and the key folder of keys.
func withKeys(t *testing.T, data, keys vfs.FS) vfs.FS {
	t.Helper()
	mixed := vfs.NewCrashableMem()
	for _, part := range []struct {
		from vfs.FS
		dir  string
	}{{data, "data/queue"}, {keys, "data/keys"}} {
		if err := mixed.MkdirAll(part.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if ok, err := vfs.Clone(part.from, mixed, part.dir, part.dir); err != nil || !ok {
			t.Fatal("copy:", ok, err)
		}
	}
	return mixed
}

// readable opens a copy and lists the messages that can be read whole.
func readable(t *testing.T, fs vfs.FS) map[queue.ID]bool {
	t.Helper()
	o := memOptions(fs)
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-s.Loaded()
	got := make(map[queue.ID]bool)
	for _, id := range s.ids() {
		s.mu.Lock()
		mi := s.index.byID[id]
		flags := s.index.msgs.at(mi).flags
		en, err := s.acquire(mi)
		s.mu.Unlock()
		if flags&msgDamaged == 0 && err == nil {
			r, err := s.content(en).Reader()
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.Copy(io.Discard, r); err == nil {
				got[id] = true
			}
			r.Close()
		}
	}
	return got
}

// scanForCanary looks through every file.
func scanForCanary(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{canary, strings.ToLower(canary)}
	for shift := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + canary))
		forms = append(forms, b[4:len(b)-4])
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, canary) {
			t.Errorf("the canary is in the name of %s", path)
		}
		if info.IsDir() {
			scanForCanary(t, fs, path)
			continue
		}
		b, err := readFile(fs, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range forms {
			if bytes.Contains(b, []byte(form)) {
				t.Errorf("the canary is in %s", path)
			}
		}
	}
}

// canaryMessage has the canary in everything that is personal.
func canaryMessage(to ...queue.Destination) *queue.Envelope {
	e := benchMessage(time.Now())
	e.Sender, e.Subject, e.EnvID, e.Origin.User = canary+"@a.example", canary, canary, canary
	e.Recipients = nil
	for _, d := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: queue.ForwardPath(canary + "@" + string(d)), ORcpt: canary})
	}
	return e
}

// TestForgets proves the promise: ten minutes after delivery a copy of
// everything but the key folder, taken at any time, and the key folder as it
// is then, reveal nothing of the message. What is still queued stays readable.
func TestForgets(t *testing.T) {
	for _, end := range []string{"running", "closed", "killed"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testForgets(t, end) })
		})
	}
}

func testForgets(t *testing.T, end string) {
	mem := vfs.NewCrashableMem()
	s, err := Open(memOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	<-s.Loaded()
	text := bytes.Repeat([]byte(canary+"\r\n"), 200)
	put := func(streamed bool, to ...queue.Destination) *queue.Envelope {
		e := canaryMessage(to...)
		head, rest := text, io.Reader(nil)
		if streamed {
			head, rest = nil, bytes.NewReader(bytes.Repeat(text, 100))
		}
		if err := s.Put(t.Context(), e, head, rest); err != nil {
			t.Fatal(err)
		}
		return e
	}
	settle := func(d queue.Destination, o queue.Outcome) {
		c, err := s.Claim(t.Context(), d, time.Now())
		if err != nil || c == nil {
			t.Fatal("nothing to claim", err)
		}
		o.Recipient = c.Recipients[0]
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{o}}); err != nil {
			t.Fatal(err)
		}
	}
	done := queue.Outcome{State: queue.Delivered, Reply: queue.Reply{Code: 250, Text: canary}}
	wait := queue.Outcome{State: queue.Waiting, Next: time.Now().Add(time.Minute), Reply: queue.Reply{Code: 450, Text: canary}}

	stays := put(false, "later.example")
	staysLarge := put(true, "later.example")
	old := put(false, "old.example") // outlives its epoch, so that its key is in a slot
	oldLarge := put(true, "old.example")
	time.Sleep(7 * time.Minute)
	small := put(false, "now.example", "two.example")
	large := put(true, "now.example")
	settle("now.example", wait)
	forgotten := []*queue.Envelope{old, oldLarge, small, large}

	var copies []*vfs.MemFS
	take := func() { copies = append(copies, snapshotFS(mem)) }
	take()
	settle("now.example", done)
	settle("two.example", done)
	time.Sleep(time.Minute)
	settle("now.example", done)
	take()
	settle("old.example", done)
	settle("old.example", done)
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	take()

	mem = endOf(t, s, mem, end)
	now := snapshotFS(mem)
	forgottenIn(t, append(copies, now), now, forgotten, []*queue.Envelope{stays, staysLarge})
}

// endOf ends a store's life, lets the time pass in which it forgets, and
// returns the file system that then counts.
func endOf(t *testing.T, s *Store, mem *vfs.MemFS, end string) *vfs.MemFS {
	t.Helper()
	t.Cleanup(func() { s.Close() })
	switch end {
	case "running":
		time.Sleep(10 * time.Minute)
	case "closed":
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	case "killed":
		// What the disk holds now is all that is left; a new process finds it.
		mem = snapshotFS(mem)
		again, err := Open(memOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { again.Close() })
		<-again.Loaded()
		time.Sleep(10 * time.Minute)
	}
	return mem
}

// forgottenIn looks into copies of the disk with the keys that exist now.
func forgottenIn(t *testing.T, copies []*vfs.MemFS, now vfs.FS, forgotten, stays []*queue.Envelope) {
	t.Helper()
	for i, data := range copies {
		scanForCanary(t, data, "data")
		got := readable(t, withKeys(t, data, now))
		for _, e := range forgotten {
			if got[e.ID] {
				t.Errorf("a message of %d octets can be read from copy %d", e.Size, i)
			}
		}
		for _, e := range stays {
			if !got[e.ID] {
				t.Errorf("a message of %d octets that is still queued cannot be read from copy %d", e.Size, i)
			}
		}
	}
	// The test could not fail if the copies were worthless: with the keys of
	// their own time, they open.
	if got := readable(t, copies[0]); len(got) != 6 {
		t.Errorf("%d of 6 messages can be read with the keys of the time", len(got))
	}
}

// TestPowerCutWhileForgetting: no step of ending an epoch can lose the key of
// a queued message; TestCrashAtEveryOperation cuts there. Here many survive.
func TestManySurvivors(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := memOptions(mem)
	s := mustOpen(t, o)
	<-s.Loaded()
	const n = 3000
	var wg sync.WaitGroup
	ids := make([][]queue.ID, 10)
	for i := range ids {
		wg.Go(func() {
			for range n / len(ids) {
				e := canaryMessage("a.example")
				if err := s.Put(t.Context(), e, []byte("text"), nil); err != nil {
					t.Error(err)
					return
				}
				ids[i] = append(ids[i], e.ID)
			}
		})
	}
	wg.Wait()
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	// Every other one goes; its slot is used again by later ones.
	for i := range n / 2 {
		if _, err := s.Delete(t.Context(), ids[i%10][i/10], nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.keys.slots.scrub(); err != nil {
		t.Fatal(err)
	}
	for range n / 4 {
		if err := s.Put(t.Context(), canaryMessage("a.example"), []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	if s.keys.slots.n != n {
		t.Errorf("the slot file has %d slots, want %d: free ones were not used again", s.keys.slots.n, n)
	}
	if got := readable(t, snapshotFS(mem)); len(got) != n/2+n/4 {
		t.Errorf("%d messages can be read, want %d", len(got), n/2+n/4)
	}
}
