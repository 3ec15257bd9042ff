package relay

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
