package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
	"tacet/queue/queuetest"
)

// checkpointed is a queue with messages of each kind, a copy of it, and the
// keys of what was queued a little later.
type checkpointed struct {
	s    *Store
	fs   vfs.FS
	keys bytes.Buffer

	before, later       queue.ID // settled before the copy, and after it
	small, large, fresh queue.ID // still queued: in a slot, streamed, in its epoch
}

const checkpointText = "Subject: x\r\n\r\nwhat is queued\r\n"

func newCheckpoint(t *testing.T) *checkpointed {
	t.Helper()
	c := &checkpointed{fs: vfs.NewMem()}
	c.s = mustOpen(t, memOptions(c.fs))
	<-c.s.Loaded()
	put := func(domain string, rest io.Reader) queue.ID {
		e := &queue.Envelope{ID: queue.NewID(time.Now()), Arrived: time.Now(), Sender: "anna@example.org",
			Recipients: []queue.Recipient{{Path: queue.ForwardPath("bob@" + domain)}}}
		if err := c.s.Put(t.Context(), e, []byte(checkpointText), rest); err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	settle := func(domain queue.Destination, state queue.State) {
		claim, err := c.s.Claim(t.Context(), domain, time.Now().Add(time.Second))
		if err != nil || claim == nil {
			t.Fatal("nothing to claim", err)
		}
		o := queue.Outcome{State: state, Next: time.Now().Add(time.Hour), Reply: queue.Reply{Code: 250}}
		if err := c.s.Settle(t.Context(), claim, queue.Settlement{Outcomes: []queue.Outcome{o}}); err != nil {
			t.Fatal(err)
		}
	}
	c.small = put("small.example", nil)
	settle("small.example", queue.Waiting)
	c.large = put("large.example", strings.NewReader(strings.Repeat(checkpointText, 20_000)))
	if err := c.s.rotate(); err != nil {
		t.Fatal(err)
	}
	c.before, c.later, c.fresh = put("before.example", nil), put("later.example", nil), put("fresh.example", nil)
	settle("before.example", queue.Delivered)
	n, err := c.s.Checkpoint(t.Context(), "copy/queue")
	if err != nil || n != 4 {
		t.Fatalf("%d messages in the copy, %v; want 4", n, err)
	}
	settle("later.example", queue.Delivered)
	if n, err := c.s.WriteKeys(t.Context(), &c.keys); err != nil || n != 3 {
		t.Fatalf("%d keys, %v; want 3", n, err)
	}
	return c
}

// contents are the messages that can be read, and their content.
func contents(t *testing.T, s *Store) map[queue.ID]string {
	t.Helper()
	got := make(map[queue.ID]string)
	for e, err := range s.Survey(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		claim, err := s.Claim(t.Context(), queuetest.Destination(e.Recipients[0].Path), time.Now().Add(2*time.Hour))
		if err != nil || claim == nil {
			t.Fatal("nothing to claim", err)
		}
		in, err := claim.Content.Reader()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close()); err != nil {
			t.Fatal(err)
		}
		got[e.ID] = string(text)
		s.Release(claim)
	}
	return got
}

// TestCheckpoint: a copy opens with the keys that were written, under another
// master key, and holds what was queued and nothing that was settled.
func TestCheckpoint(t *testing.T) {
	c := newCheckpoint(t)
	o := memOptions(c.fs)
	o.Dir, o.KeyDir, o.MasterKey = "copy/queue", "copy/keys", bytes.Repeat([]byte{7}, keySize)
	if n, err := ReadKeys(o, bytes.NewReader(c.keys.Bytes())); err != nil || n != 3 {
		t.Fatalf("%d keys were read, %v", n, err)
	}
	s := mustOpen(t, o)
	forgotten, err := s.Forgotten(t.Context())
	if err != nil || !slices.Equal(forgotten, []queue.ID{c.later}) {
		t.Fatalf("forgotten: %v, %v; want %v", forgotten, err, c.later)
	}
	if _, err := s.Delete(t.Context(), c.later, nil); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats(); n.Messages != 3 || n.Damaged != 0 {
		t.Errorf("the copy has %+v", n)
	}
	got := contents(t, s)
	want := map[queue.ID]string{c.small: checkpointText, c.fresh: checkpointText, c.large: strings.Repeat(checkpointText, 20_001)}
	for id, text := range want {
		if got[id] != text {
			t.Errorf("%d octets came back, want %d", len(got[id]), len(text))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
	e, err := s.Get(t.Context(), c.small)
	if err != nil || e.Recipients[0].Attempts != 1 || !e.Recipients[0].Next.After(time.Now()) {
		t.Errorf("a deferred message came back as %+v, %v", e, err)
	}
}

// Without the keys a copy opens nothing, and the keys of the queue as they are
// now open what is still queued.
func TestCheckpointWithoutKeys(t *testing.T) {
	c := newCheckpoint(t)
	o := memOptions(c.fs)
	o.Dir, o.KeyDir = "copy/queue", "copy/keys"
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	forgotten, err := s.Forgotten(t.Context())
	if err != nil || len(forgotten) != 4 {
		t.Errorf("%d are forgotten, %v; want 4", len(forgotten), err)
	}
	if got := contents(t, s); len(got) != 0 {
		t.Errorf("%d messages can be read", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	o.KeyDir = memOptions(c.fs).KeyDir
	s = mustOpen(t, o)
	if forgotten, err = s.Forgotten(t.Context()); err != nil || !slices.Equal(forgotten, []queue.ID{c.later}) {
		t.Errorf("forgotten: %v, %v; want %v", forgotten, err, c.later)
	}
	if got := contents(t, s); len(got) != 3 {
		t.Errorf("%d messages can be read, want 3", len(got))
	}
}

func TestReadKeysDamaged(t *testing.T) {
	c := newCheckpoint(t)
	for cut := range c.keys.Len() {
		whole := cut >= len(keysMark) && (cut-len(keysMark))%keysRecord == 0
		o := memOptions(vfs.NewMem())
		if _, err := ReadKeys(o, bytes.NewReader(c.keys.Bytes()[:cut])); (err == nil) != whole || !whole && !errors.Is(err, ErrKeyFile) {
			t.Errorf("of %d octets: %v", cut, err)
		}
	}
}

// TestCheckpointUnderLoad: a copy that is made while mail flows has every
// message that was acknowledged before, and none that was settled before.
func TestCheckpointUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination})
	fill(t, s, 500, 300)
	settled := make(map[queue.ID]bool)
	for i := range 50 {
		c, err := s.Claim(t.Context(), queue.Destination(fmt.Sprintf("domain%d.example", i)), time.Now().Add(time.Second))
		if err != nil || c == nil {
			t.Fatal("nothing to claim", err)
		}
		done := queue.Outcome{State: queue.Delivered, Reply: queue.Reply{Code: 250}}
		if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{done}}); err != nil {
			t.Fatal(err)
		}
		settled[c.Envelope.ID] = true
	}
	before := s.ids()
	flow := make(chan struct{})
	go func() {
		defer close(flow)
		fill(t, s, 500, 300)
	}()
	if _, err := s.Checkpoint(t.Context(), dir+"/copy"); err != nil {
		t.Fatal(err)
	}
	<-flow
	var keys bytes.Buffer
	if _, err := s.WriteKeys(t.Context(), &keys); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: dir + "/copy", KeyDir: dir + "/copied-keys", Destination: queuetest.Destination}
	if _, err := ReadKeys(o, &keys); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, o)
	got := make(map[queue.ID]bool)
	for e, err := range again.Survey(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got[e.ID] = true
	}
	for _, id := range before {
		if !got[id] {
			t.Fatalf("a message that was queued before is not in the copy")
		}
	}
	for id := range settled {
		if got[id] {
			t.Fatalf("a message that was settled before is in the copy")
		}
	}
	<-again.Loaded()
	if n := again.Stats().Damaged; n > 0 {
		t.Errorf("%d are damaged", n)
	}
}

// TestSurvey: it says what List says, and Waits what the filters say.
func TestSurvey(t *testing.T) {
	o := memOptions(vfs.NewMem())
	o.MemoryBudget = 1 // List reads from the disk too
	s := mustOpen(t, o)
	fill(t, s, 300, 100)
	if err := s.rotate(); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 300, 100)
	for _, id := range s.ids()[250:350] {
		if err := s.Hold(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Delete(t.Context(), s.ids()[260], nil); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]queue.Filter{
		"all": {}, "held": {State: new(queue.Held)}, "waiting": {State: new(queue.Waiting)},
		"domain": {Domain: "domain7.example"}, "old": {Older: time.Hour},
	} {
		var want, got []string
		for e, err := range s.List(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(*e))
		}
		for e, err := range s.Survey(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(*e))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d messages, want %d", name, len(got), len(want))
		}
	}
	count := make(map[bool]int)
	places := make(map[queue.Destination]int)
	for w, err := range s.Waits(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count[w.Held]++
		places[w.Destination]++
	}
	if count[true] != 99 || count[false] != 500 || places["domain7.example"] != 2 {
		t.Errorf("%d held, %d waiting, %d for one domain", count[true], count[false], places["domain7.example"])
	}
}

// BenchmarkSurvey goes over a backlog in the ways that operators do.
func BenchmarkSurvey(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	s := mustOpen(b, Options{Dir: dir + "/queue", KeyDir: dir + "/keys", Destination: queuetest.Destination})
	fill(b, s, n, 200)
	if err := s.rotate(); err != nil {
		b.Fatal(err)
	}
	perMessage := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/msg")
	}
	b.Run("survey", func(b *testing.B) {
		for b.Loop() {
			for _, err := range s.Survey(b.Context(), queue.Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		perMessage(b)
	})
	b.Run("waits", func(b *testing.B) {
		for b.Loop() {
			for _, err := range s.Waits(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		perMessage(b)
	})
	b.Run("checkpoint", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Checkpoint(b.Context(), fmt.Sprintf("%s/copy%d", dir, i)); err != nil {
				b.Fatal(err)
			}
		}
		perMessage(b)
	})
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.WriteKeys(b.Context(), io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		perMessage(b)
	})
}
