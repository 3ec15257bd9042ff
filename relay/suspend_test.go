package relay

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// suspend fills one destination, whose hosts no attempt reaches, and runs the
// relay. began yields the time of each attempt since the start.
func suspend(t *testing.T, messages int) (w *world, began chan time.Duration) {
	t.Helper()
	w = newWorld(t, func(c *Config) { c.Schedule.Retry = []time.Duration{time.Hour}; c.Schedule.Lifetime = 24 * time.Hour })
	began = make(chan time.Duration, 1000)
	start := time.Now()
	w.hop.answer = func(c *queue.Claim) Result {
		began <- time.Since(start)
		time.Sleep(time.Second)
		return unreached(c, queue.CauseAllHostsFailed)
	}
	for range messages {
		if _, err := w.Accept(t.Context(), envelope("b@down.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go w.Run(ctx)
	return w, began
}

// Attempts that fail at the same time are one failure of the destination: its
// first suspension is the short one.
func TestSuspensionCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, began := suspend(t, 50)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		const first = firstWindow + failuresToSuspend - 1 // all but the last of the failures that suspend are followed by another attempt
		if n := len(began); n != first {
			t.Fatalf("%d attempts at a destination that cannot be reached, want %d", n, first)
		}
		for range first {
			<-began
		}
		time.Sleep(time.Hour - 25*time.Second)
		if at := <-began; at > time.Second+firstSuspension {
			t.Errorf("the first probe came after %s, want it after %s", at, time.Second+firstSuspension)
		}
	})
}

// A suspended destination that nothing waits for any more is forgotten.
func TestSuspendedLaneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := suspend(t, 10)
		time.Sleep(10 * time.Second)
		w.store.mu.Lock()
		clear(w.store.messages)
		w.store.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.lanes); n != 0 {
			t.Errorf("%d lanes are kept for an empty queue", n)
		}
	})
}

// suspendWarning is a relay that warns after four hours; down.example is away, all else takes mail.
func suspendWarning(t *testing.T) *world {
	t.Helper()
	w, _ := suspend(t, 0)
	c := *w.config.Load()
	c.Schedule.DelayWarning = 4 * time.Hour
	w.Reload(c)
	fail := w.hop.answer
	w.hop.answer = func(c *queue.Claim) Result {
		if c.Destination == "down.example" {
			return fail(c)
		}
		return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
	}
	return w
}

// The senders of all that waits at a suspended destination are warned in time,
// not only that of the message by which it is probed.
func TestSuspendedWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 30
		w := suspendWarning(t)
		for range messages {
			if _, err := w.Accept(t.Context(), envelope("b@down.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(4*time.Hour - time.Second)
		synctest.Wait()
		if n := w.Stats.Reports.Load(); n != 0 {
			t.Errorf("%d warnings before their time", n)
		}
		time.Sleep(time.Hour + longestSuspension + time.Minute) // some had an attempt just before, and wait for their next
		synctest.Wait()
		if n := w.Stats.Reports.Load(); n != messages {
			t.Errorf("%d of %d senders were warned", n, messages)
		}
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		if n := w.Stats.Reports.Load(); n != messages {
			t.Errorf("%d warnings for %d messages", n, messages)
		}
	})
}

// Those that are owed nothing, and wait longer, do not stand before a sender
// who is owed a warning.
func TestSuspendedWarnsBehindOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const before, after = 30, 5
		w := suspendWarning(t)
		accept := func(messages int) {
			for range messages {
				if _, err := w.Accept(t.Context(), envelope("b@down.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		accept(before)
		time.Sleep(6 * time.Hour) // those are warned of, and due again
		accept(after)
		time.Sleep(5*time.Hour + longestSuspension + time.Minute)
		synctest.Wait()
		if n := w.Stats.Reports.Load(); n != before+after {
			t.Errorf("%d of %d senders were warned", n, before+after)
		}
	})
}
