package relay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// slowLook is a store in which something happens while Run looks at what is due.
type slowLook struct {
	*memoryStore
	meanwhile func()
}

func (s slowLook) Due(now time.Time) ([]queue.Destination, time.Time) {
	defer s.meanwhile()
	return s.memoryStore.Due(now)
}

// What is deferred while Run looks at the queue is not forgotten until its next look.
func TestDeferredMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"})
		if err != nil {
			t.Fatal(err)
		}
		next := time.Now().Add(2 * time.Second)
		first := &w.store.messages[id].e.Recipients[0]
		first.State, first.Next = queue.Held, next
		w.Relay.store = slowLook{w.store, sync.OnceFunc(func() {
			first.State = queue.Waiting
			w.kickBy(next)
		})}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if w.Stats.Delivered.Load() != 1 {
			t.Error("what fell due after two seconds was not delivered after three")
		}
	})
}

// While the log cannot be written nothing is delivered: a kill would leave what was
// without its record. A log that is slow holds nothing up, and what waited goes once it is well again.
func TestNothingIsDeliveredUnrecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		takes := func(err error, delivered int) {
			t.Helper()
			w.journal.fail(err)
			if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			w.hop.mu.Lock()
			defer w.hop.mu.Unlock()
			if got := len(w.hop.got); got != delivered {
				t.Errorf("%v: %d were tried, want %d", err, got, delivered)
			}
		}
		takes(nil, 1)
		takes(errors.New("no space left on device"), 1)
		takes(logging.ErrBacklog, 3)
		takes(logging.ErrClosed, 4)
		takes(errors.New("no space left on device"), 4)
		w.journal.fail(nil)
		time.Sleep(longestSleep + time.Second)
		if left := len(w.store.messages); left != 0 {
			t.Errorf("%d messages are left once the log is well", left)
		}
		stop()
		<-ended
	})
}
