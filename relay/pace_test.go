package relay

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// fill has n messages accepted for the recipient.
func (w *world) fill(t *testing.T, n int, to queue.ForwardPath) {
	t.Helper()
	for range n {
		if _, err := w.Accept(t.Context(), envelope(to), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
	}
}

// A destination with a rate gets its mail evenly, whatever waits there and
// however often its lane comes and goes, and no client is slowed down for it.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits.Store(&Limits{Every: 10 * time.Second})
		var mu sync.Mutex
		var at []time.Time
		w.hop.answer = func(c *queue.Claim) Result {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		ctx, stop := context.WithCancel(t.Context())
		go w.Run(ctx)
		synctest.Wait()
		begun := time.Now()
		w.fill(t, 300, "b@one.example")
		if took := time.Since(begun); took != 0 {
			t.Errorf("clients waited %v", took)
		}
		time.Sleep(time.Hour)
		w.fill(t, 1, "b@one.example")
		time.Sleep(5 * time.Second) // its lane is gone
		w.fill(t, 1, "b@one.example")
		time.Sleep(time.Minute)
		mu.Lock()
		if len(at) != 302 {
			t.Fatalf("%d of 302 were sent", len(at))
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < 10*time.Second || i < 300 && gap > 11*time.Second {
				t.Errorf("message %d came %v after the one before", i, gap)
			}
		}
		mu.Unlock()
		w.fill(t, 20, "b@one.example")
		time.Sleep(15 * time.Second)
		stop()
		w.workers.Wait()
		if w.store.count() < 17 {
			t.Errorf("%d are left of 20: it stopped by sending", w.store.count())
		}
	})
}

// A new configuration holds for lanes that are at work.
func TestLimitsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits.Store(&Limits{Concurrency: 2})
		var now, most atomic.Int64
		w.hop.answer = func(c *queue.Claim) Result {
			raise(&most, now.Add(1))
			defer now.Add(-1)
			time.Sleep(time.Second)
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		synctest.Wait()
		w.fill(t, 150, "b@one.example")
		time.Sleep(10*time.Second + time.Millisecond)
		if most.Load() != 2 || w.Stats.Delivered.Load() != 20 {
			t.Errorf("%d at a time, %d in ten seconds", most.Load(), w.Stats.Delivered.Load())
		}
		w.limits.Store(&Limits{Concurrency: 8})
		w.Reload(*w.config.Load())
		time.Sleep(30 * time.Second)
		if most.Load() != 8 {
			t.Errorf("%d at a time under the new limit", most.Load())
		}
		w.limits.Store(nil)
		w.Reload(*w.config.Load())
		time.Sleep(time.Minute)
		if w.store.count() != 0 {
			t.Errorf("%d are left", w.store.count())
		}
	})
}

// Paces are few: those that hold nothing back are forgotten.
func TestPacesBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits.Store(&Limits{Every: time.Second})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		synctest.Wait()
		for i := range 3 * idlePaces {
			w.fill(t, 1, queue.ForwardPath(fmt.Sprintf("b@d%d.example", i)))
			if i%100 == 0 {
				time.Sleep(10 * time.Second)
			}
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.paces); n > idlePaces+100 {
			t.Errorf("%d paces are kept", n)
		}
		if w.Stats.Delivered.Load() != 3*idlePaces {
			t.Errorf("%d were sent", w.Stats.Delivered.Load())
		}
	})
}
