package relay

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// Concurrency towards a destination starts low, grows while deliveries
// succeed up to the limit, and gives way when a host asks for it.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Concurrency = 20 })
		var now, most, early, limit atomic.Int64
		limit.Store(100)
		begun := time.Now()
		w.hop.answer = func(c *queue.Claim) Result {
			n := now.Add(1)
			defer now.Add(-1)
			raise(&most, n)
			if time.Since(begun) == 0 {
				raise(&early, n)
			}
			if n > limit.Load() {
				return answered(c, queue.Reply{Code: 421, Cause: queue.CauseConcurrencyLimit, Stage: queue.StageGreeting})
			}
			time.Sleep(time.Second)
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		fill := func(n int) {
			for range n {
				if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		synctest.Wait()
		fill(400)
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.store.count() != 0 {
			t.Errorf("%d of 400 left after a minute", w.store.count())
		}
		if early.Load() > firstWindow || most.Load() != 20 {
			t.Errorf("began with %d at a time and came to %d; want %d and 20", early.Load(), most.Load(), firstWindow)
		}

		limit.Store(3)
		fill(100)
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.store.count() != 0 {
			t.Errorf("%d of 100 left at a host that takes three connections", w.store.count())
		}
	})
}

// raise makes v at least n.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// One destination that hangs takes nothing from another.
func TestSlowDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		w.hop.answer = func(c *queue.Claim) Result {
			if c.Destination == "slow.example" {
				<-ctx.Done()
				return unreached(c, queue.CauseShutdown)
			}
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		go w.Run(ctx)
		for range 100 {
			for _, to := range []queue.ForwardPath{"b@slow.example", "b@fast.example"} {
				if _, err := w.Accept(t.Context(), envelope(to), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if got := w.Stats.Delivered.Load(); got != 100 {
			t.Errorf("%d of 100 delivered beside a destination that hangs", got)
		}
	})
}
