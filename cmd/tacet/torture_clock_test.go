package main_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/queue/pebblestore"
	"tacet/relay"
)

// clockWorld is the core with the real store, on a fake clock, without network.
type clockWorld struct {
	t     *testing.T
	dir   string
	store *pebblestore.Store

	mu       sync.Mutex
	attempts []attempted
	active   int
	most     int // attempts at a time
	answer   queue.Reply
	records  map[string]int
}

type attempted struct {
	id queue.ID
	at time.Time
}

// Destination implements relay.Router.
func (w *clockWorld) Destination(p queue.ForwardPath) queue.Destination {
	return queue.Destination(p.Domain())
}

// Limits implements relay.Router.
func (w *clockWorld) Limits(queue.Destination) relay.Limits { return relay.Limits{} }

// Deliver implements relay.Transport: each attempt takes ten milliseconds.
func (w *clockWorld) Deliver(ctx context.Context, c *queue.Claim) relay.Result {
	if c.Envelope.Origin.Local { // a report
		return relay.Result{Replies: []queue.Reply{{Code: 250, Stage: queue.StageEnd}}}
	}
	w.mu.Lock()
	w.active++
	w.most = max(w.most, w.active)
	w.attempts = append(w.attempts, attempted{c.Envelope.ID, time.Now()})
	answer := w.answer
	w.mu.Unlock()
	time.Sleep(10 * time.Millisecond) // of the fake clock
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active--
	res := relay.Result{Host: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Replies: make([]queue.Reply, len(c.Recipients))}
	for i := range res.Replies {
		res.Replies[i] = answer
	}
	return res
}

// Write implements relay.Journal.
func (w *clockWorld) Write(r *logging.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records[r.Event.String()]++
	return nil
}

// Secure implements relay.Journal.
func (w *clockWorld) Secure() {}

// Err implements relay.Journal.
func (w *clockWorld) Err() error { return nil }

func newClockWorld(t *testing.T) *clockWorld {
	dir, err := os.MkdirTemp("", "tacet-clock-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &clockWorld{t: t, dir: dir, records: map[string]int{}, answer: queue.Reply{Code: 450, Stage: queue.StageRcpt}}
}

// life runs the relay for so long, as one process.
func (w *clockWorld) life(span time.Duration, put ...*queue.Envelope) {
	w.t.Helper()
	store, err := pebblestore.Open(pebblestore.Options{Dir: w.dir + "/queue", KeyDir: w.dir + "/keys", Destination: w.Destination})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = store
	<-store.Loaded()
	for _, e := range put {
		if err := store.Put(w.t.Context(), e, []byte("Subject: x\r\n\r\nx\r\n"), nil); err != nil {
			w.t.Fatal(err)
		}
	}
	r := relay.New(relay.Config{
		Hostname: "relay.example.org", Postmaster: "postmaster@relay.example.org",
		Schedule: queue.Schedule{
			Retry:    []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour},
			Lifetime: 5 * 24 * time.Hour, DelayWarning: 4 * time.Hour,
		},
	}, store, store, w, w, w)
	ctx, stop := context.WithTimeout(w.t.Context(), span)
	defer stop()
	r.Run(ctx)
	if err := store.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// waiting makes n envelopes of a process whose clock was wrong by off.
func waiting(n int, off, next time.Duration) (all []*queue.Envelope) {
	for i := range n {
		then := time.Now().Add(off)
		all = append(all, &queue.Envelope{
			ID: queue.NewID(then), Arrived: then, Sender: "anna@sender.example",
			Recipients: []queue.Recipient{{
				Path: queue.ForwardPath(fmt.Sprintf("u%d@next.example", i)), Attempts: 1, Next: then.Add(next),
				Last: queue.Reply{Code: 450, Stage: queue.StageRcpt},
			}},
		})
	}
	return all
}

// TestClockJumps: the machine's clock was wrong by years while mail was
// queued, and is right now. Nothing expires for that, nothing waits for
// years, and not everything comes at once.
func TestClockJumps(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	const year = 365 * 24 * time.Hour
	for name, off := range map[string]time.Duration{
		"it was ten years ahead":  10 * year,
		"it was ten years behind": -10 * year,
		"it was 1970":             time.Unix(3600, 0).Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), // the fake clock begins in 2000
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClockWorld(t)
				const n = 200
				w.life(3*time.Hour, waiting(n, off, 10*time.Minute)...)
				w.check(n)
			})
		})
	}
}

func (w *clockWorld) check(n int) {
	w.t.Helper()
	if expired := w.records["expired"] + w.records["failed"]; expired > 0 {
		w.t.Errorf("%d of %d messages expired at once", expired, n)
	}
	each := map[queue.ID]int{}
	for _, a := range w.attempts {
		each[a.id]++
	}
	for id, attempts := range each {
		if attempts > 8 {
			w.t.Errorf("message %v: %d attempts in three hours", id, attempts)
		}
	}
	if late := n - len(each); late > 0 {
		w.t.Errorf("%d of %d messages were not tried once in three hours", late, n)
	}
	if w.most > 20 {
		w.t.Errorf("%d attempts at a time", w.most)
	}
	w.t.Logf("%d attempts for %d messages, %d at a time at most; %v", len(w.attempts), n, w.most, w.records)
}
