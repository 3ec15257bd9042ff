package relay

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// primaryHop is a hop that can be probed.
type primaryHop struct {
	hop
	mu     sync.Mutex
	up     bool
	probes int
}

func (p *primaryHop) Probe(context.Context, queue.Destination) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	return p.up
}

func (p *primaryHop) set(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = up
}

func (p *primaryHop) isUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// retries is the part of queue.Admin that a primary's return needs.
type retries struct {
	queue.Admin
	store *memoryStore
}

func (a retries) RetryAll(context.Context) (int, error) { return 0, nil }

func (a retries) List(context.Context, queue.Filter) iter.Seq2[*queue.Envelope, error] { return nil }

func (a retries) RetryAt(_ context.Context, d queue.Destination) (n int, _ error) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	for _, m := range a.store.messages {
		e := *m.e
		e.Recipients = slices.Clone(e.Recipients)
		m.e = &e
		for i := range e.Recipients {
			if r := &e.Recipients[i]; a.store.route(r.Path) == d && r.State == queue.Waiting && r.Next.After(time.Now()) {
				r.Next = m.e.Arrived
				n++
			}
		}
	}
	return n, nil
}

// fallback is a relay with mail for a primary that is away.
func fallback(t *testing.T, messages int) (*world, *primaryHop, func() []string) {
	t.Helper()
	const primary queue.Destination = "primary.example"
	h := &primaryHop{}
	w := newWorld(t, func(c *Config) {
		c.Schedule = queue.Schedule{Retry: []time.Duration{time.Hour}, Lifetime: time.Hour}
		c.PrimarySchedule = queue.Schedule{Retry: []time.Duration{time.Hour}, Lifetime: 14 * 24 * time.Hour}
		c.Prober = h
		c.Primaries = map[queue.Destination]struct{}{primary: {}}
	})
	w.Relay = New(*w.config.Load(), w.store, retries{store: w.store}, w.router, h, w.journal)
	var mu sync.Mutex
	var order []string
	h.answer = func(c *queue.Claim) Result {
		time.Sleep(time.Second)
		if !h.isUp() {
			return unreached(c, queue.CauseRefused)
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, c.Envelope.ID.String())
		return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
	}
	for range messages {
		if _, err := w.Accept(t.Context(), envelope("b@primary.example"), strings.NewReader(mailText), Session{Protocol: "ESMTP"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go w.Run(ctx)
	return w, h, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
}

// A primary that is away costs a few attempts and then probes alone; once it answers all of
// its mail goes out at once, also what the attempts have deferred, the oldest first.
func TestPrimaryReturns(t *testing.T) {
	for _, messages := range []int{1, 60} { // one alone has to be enough
		synctest.Test(t, func(t *testing.T) { primaryReturns(t, messages) })
	}
}

func primaryReturns(t *testing.T, messages int) {
	w, h, order := fallback(t, messages)
	time.Sleep(10*time.Hour + time.Second)
	synctest.Wait()
	attempts := 0
	for _, m := range w.store.messages {
		attempts += m.e.Recipients[0].Attempts
	}
	if attempts > firstWindow || h.probes < 1000 {
		t.Errorf("%d attempts, %d probes; want at most %d, and one each %s", attempts, h.probes, firstWindow, defaultProbeEvery)
	}
	if !w.Unreachable("primary.example") {
		t.Error("the primary counts as reachable")
	}
	h.set(true)
	time.Sleep(defaultProbeEvery + 15*time.Second)
	synctest.Wait()
	got := order()
	if len(got) != messages || w.store.count() != 0 {
		t.Fatalf("%d of %d delivered, %d are left", len(got), messages, w.store.count())
	}
	for i, id := range got { // those that are under way at the same time may change places
		if oldest := slices.Min(got[i:]); id != oldest && slices.Index(got, oldest)-i > 20 {
			t.Fatalf("delivery %d goes before one that is far older", i)
		}
	}
}

// Mail that was deferred before a restart goes out when the primary is back, not when its time comes.
func TestPrimaryReturnsAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, order := fallback(t, 0)
		synctest.Wait()
		e := envelope("b@primary.example")
		e.Arrived = time.Now()
		e.Recipients[0].Next = time.Now().Add(time.Hour) // deferred by the relay that was here before
		if err := w.store.Put(t.Context(), e, []byte(mailText), nil); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go New(*w.config.Load(), w.store, retries{store: w.store}, w.router, h, w.journal).Run(ctx)
		time.Sleep(5 * time.Minute)
		h.set(true)
		time.Sleep(defaultProbeEvery + 15*time.Second)
		synctest.Wait()
		if got := order(); len(got) != 1 {
			t.Errorf("%d of 1 delivered within a probe's time", len(got))
		}
	})
}

// What the primary itself, or an operator, asks for is delivered at once.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, order := fallback(t, 10)
		time.Sleep(10 * time.Second)
		h.set(true)
		if n, err := w.Drain(t.Context(), "primary.example"); n == 0 || err != nil {
			t.Errorf("Drain: %d, %v", n, err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := order(); len(got) != 10 {
			t.Errorf("%d of 10 delivered", len(got))
		}
	})
}

// Mail for a primary has a lifetime of its own, and ends with it while the primary is away.
func TestPrimaryLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := fallback(t, 5)
		time.Sleep(13 * 24 * time.Hour)
		synctest.Wait()
		if n := w.store.count(); n != 5 {
			t.Errorf("%d of 5 are left after 13 days", n)
		}
		time.Sleep(3 * 24 * time.Hour)
		synctest.Wait()
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		for _, m := range w.store.messages {
			if m.e.Recipients[0].Path == "b@primary.example" {
				t.Errorf("one is left after 16 days: %+v", m.e.Recipients[0])
			}
		}
	})
}
