package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tacet/queue"
)

// ledger is what was promised of each message up to now.
type ledger struct {
	mu       sync.Mutex
	messages map[queue.ID]promise
}

// promise is what was promised of one message.
type promise struct {
	acked    bool // Put has returned
	settling bool // its last recipient's Settle, or its Delete, has begun
	gone     bool // that is durable
	size     int
	attempts [2]int // durable, and begun, of the first recipient

	owes   bool     // that a report is owed for it is durable
	report queue.ID // the report, once it is being made
}

func (l *ledger) update(id queue.ID, f func(*promise)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.messages[id]
	f(&p)
	l.messages[id] = p
}

func (l *ledger) copy() map[queue.ID]promise {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.messages)
}

// crashWork is a run of everything that writes.
type crashWork struct {
	t *testing.T
	s *Store
	l *ledger
}

func crashContent(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func (w *crashWork) put(size int, streamed bool, to ...queue.ForwardPath) *queue.Envelope {
	e := benchMessage(time.Now())
	e.Recipients = nil
	for _, r := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: r})
	}
	b := crashContent(size)
	head, rest := b, io.Reader(nil)
	if streamed {
		head, rest = b[:size/2], bytes.NewReader(b[size/2:])
	}
	w.l.update(e.ID, func(p *promise) { p.size = size })
	if err := w.s.Put(w.t.Context(), e, head, rest); err != nil {
		w.t.Fatal(err)
	}
	w.l.update(e.ID, func(p *promise) { p.acked = true })
	return e
}

// settle ends the recipients of what is due at d: all of them, or all but the first.
func (w *crashWork) settle(d queue.Destination, done bool, report *queue.Report) {
	c, err := w.s.Claim(w.t.Context(), d, time.Now().Add(time.Second))
	if err != nil || c == nil {
		w.t.Fatal("nothing to claim", err)
	}
	st := queue.Settlement{Report: report}
	for _, i := range c.Recipients {
		o := queue.Outcome{Recipient: i, State: queue.Delivered, Reply: queue.Reply{Code: 250}}
		if i == 0 && !done {
			o = queue.Outcome{Recipient: i, State: queue.Waiting, Reply: queue.Reply{Code: 450}}
		}
		st.Outcomes = append(st.Outcomes, o)
	}
	over := done
	for i, r := range c.Envelope.Recipients {
		if !r.State.Settled() && i != 0 && d != "one.example" {
			over = false
		}
	}
	w.l.update(c.Envelope.ID, func(p *promise) {
		p.settling = p.settling || over
		if c.Recipients[0] == 0 {
			p.attempts[1]++
		}
	})
	if report != nil {
		w.l.update(report.Envelope.ID, func(p *promise) { p.size = len(report.Content) })
	}
	if err := w.s.Settle(w.t.Context(), c, st); err != nil {
		w.t.Fatal(err)
	}
	if report == nil {
		if err := w.s.flush(); err != nil {
			w.t.Fatal(err)
		}
	} else {
		w.l.update(report.Envelope.ID, func(p *promise) { p.acked = true })
	}
	w.l.update(c.Envelope.ID, func(p *promise) {
		p.gone = p.settling
		p.attempts[0] = p.attempts[1]
	})
}

// gather has one recipient of two fail, and the report on it made when the other is delivered to.
func (w *crashWork) gather() {
	e := w.put(2000, false, "a@four.example", "b@five.example")
	settle := func(d queue.Destination, o queue.Outcome, report *queue.Report) {
		c, err := w.s.Claim(w.t.Context(), d, time.Now().Add(time.Second))
		if err != nil || c == nil {
			w.t.Fatal("nothing to claim", err)
		}
		if err := w.s.Settle(w.t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{o}, Report: report}); err != nil {
			w.t.Fatal(err)
		}
		if err := w.s.flush(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.l.update(e.ID, func(p *promise) { p.attempts[1]++ })
	settle("four.example", queue.Outcome{State: queue.Failed, Owed: &queue.Owed{Kind: queue.NotifyFailure, By: time.Now().Add(time.Hour)}}, nil)
	w.l.update(e.ID, func(p *promise) { p.attempts[0], p.owes = 1, true })
	settle("five.example", queue.Outcome{Recipient: 1, State: queue.Delivered, Reply: queue.Reply{Code: 250}}, nil)
	report := benchMessage(time.Now())
	w.l.update(report.ID, func(p *promise) { p.size = 800 })
	w.l.update(e.ID, func(p *promise) { p.settling, p.report = true, report.ID })
	settle(queue.Reports, queue.Outcome{}, &queue.Report{Envelope: report, Content: crashContent(800)})
	w.l.update(report.ID, func(p *promise) { p.acked = true })
	w.l.update(e.ID, func(p *promise) { p.gone = true })
	w.settle("sink.example", true, nil)
}

func (w *crashWork) run() {
	must := func(err error) {
		if err != nil {
			w.t.Helper()
			w.t.Fatal(err)
		}
	}
	ctx := w.t.Context()
	w.put(700, false, "a@one.example")
	w.put(100<<10, true, "a@one.example")
	w.settle("one.example", true, nil)
	w.settle("one.example", false, nil)
	survivor := w.put(5000, false, "a@one.example", "b@one.example")
	w.settle("one.example", false, nil) // the large one or the survivor: both stay
	must(w.s.rotate())
	w.gather()
	w.put(3000, false, "a@one.example")
	must(w.s.Hold(ctx, survivor.ID))
	must(w.s.Unhold(ctx, survivor.ID))
	must(w.s.flushTables())
	w.settle("one.example", true, nil)
	must(w.s.keys.slots.scrub())
	report := benchMessage(time.Now())
	w.settle("one.example", true, &queue.Report{Envelope: report, Content: crashContent(900)})
	deleted := w.put(64<<10, true, "a@two.example")
	w.l.update(deleted.ID, func(p *promise) { p.settling = true })
	_, err := w.s.Delete(ctx, deleted.ID, nil)
	must(err)
	w.l.update(deleted.ID, func(p *promise) { p.gone = true })
	_, err = w.s.RetryAll(ctx)
	must(err)
	must(w.s.rotate())
	w.put(10, false, "a@one.example")
	must(w.s.rotate())
	for _, d := range []queue.Destination{"one.example", "one.example", "sink.example"} {
		w.settle(d, true, nil)
	}
	must(w.s.keys.slots.scrub())
	w.s.giveBack()
	w.put(20<<10, false, "a@one.example")
	must(w.s.Close())
}

// checkRecovered opens what a crash has left and holds it against the promises.
func checkRecovered(fs vfs.FS, want map[queue.ID]promise) error {
	o := memOptions(fs)
	var trouble []Event
	var mu sync.Mutex
	o.Events = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		trouble = append(trouble, e)
	}
	s, err := Open(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close()
	<-s.Loaded()
	mu.Lock()
	defer mu.Unlock()
	for _, e := range trouble {
		return fmt.Errorf("event %v: %w", e.Kind, e.Err)
	}
	for id, p := range want {
		s.mu.Lock()
		mi, queued := s.index.byID[id]
		s.mu.Unlock()
		if p.owes && !want[p.report].settling {
			s.mu.Lock()
			_, made := s.index.byID[p.report]
			s.mu.Unlock()
			if made == queued {
				return fmt.Errorf("the message is queued: %v, the report on it: %v; want one of them", queued, made)
			}
		}
		switch {
		case !queued && p.acked && !p.settling:
			return fmt.Errorf("an acknowledged message of %d octets is lost", p.size)
		case queued && p.gone:
			return fmt.Errorf("a message of %d octets is back after its end was durable", p.size)
		case !queued:
			continue
		}
		s.mu.Lock()
		en, err := s.acquire(mi)
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("a message of %d octets cannot be read: %w", p.size, err)
		}
		if p.owes && en.env.Recipients[0].Owed == nil {
			return errors.New("a report that was owed is owed no more")
		}
		if n := en.env.Recipients[0].Attempts; n < p.attempts[0] || n > p.attempts[1] {
			return fmt.Errorf("a message has %d attempts, want %v", n, p.attempts)
		}
		c := s.content(en)
		r, err := c.Reader()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(b, crashContent(p.size)) {
			return fmt.Errorf("the content of a message of %d octets differs: %w", p.size, err)
		}
	}
	return nil
}

// TestCrashAtEveryOperation cuts the power before and after each call that
// changes the file system, with none, some or all of what was not synced
// lost. What is left must open, with every promise kept.
func TestCrashAtEveryOperation(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		mem := vfs.NewCrashableMem()
		l := &ledger{messages: make(map[queue.ID]promise)}
		var mu sync.Mutex
		var calls int
		rng := rand.New(rand.NewPCG(uint64(round), 1))
		cut := func(o op, when string) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			for _, lost := range []int{[]int{0, 10, 50, 90}[(calls+round)%4], 100} {
				if lost == 100 && calls%2 == 0 {
					continue
				}
				want := l.copy()
				clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - lost, RNG: rng})
				if err := checkRecovered(clone, want); err != nil {
					t.Errorf("round %d, %s call %d (%s %s), %d%% of what was not synced lost: %v", round, when, calls, o.kind, o.name, lost, err)
				}
			}
		}
		fs := &opFS{FS: mem}
		fs.before = func(o op) error { cut(o, "before"); return nil }
		fs.after = func(o op) { cut(o, "after") }
		s, err := Open(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		<-s.Loaded()
		w := &crashWork{t: t, s: s, l: l}
		w.run()
		if t.Failed() {
			return
		}
		t.Logf("round %d: %d cuts", round, calls)
		clean(t, mem, l)
	}
}

// clean checks what is left when nothing was cut.
func clean(t *testing.T, mem vfs.FS, l *ledger) {
	t.Helper()
	if err := checkRecovered(mem, l.copy()); err != nil {
		t.Errorf("after an orderly end: %v", err)
	}
}

func testRNG() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
