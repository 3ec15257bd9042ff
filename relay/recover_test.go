package relay

import (
	"context"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// admin lets the memory store be looked at.
type admin struct {
	queue.Admin
	store *memoryStore
}

func (a admin) List(_ context.Context, f queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		for _, m := range a.store.messages {
			if !m.e.Arrived.Before(f.Since) && !yield(m.e, nil) {
				return
			}
		}
	}
}

func (a admin) Delete(_ context.Context, id queue.ID, told func(*queue.Envelope)) (*queue.Envelope, error) {
	m := a.store.messages[id]
	if m == nil {
		return nil, queue.ErrNotFound
	}
	told(m.e)
	delete(a.store.messages, id)
	return m.e, nil
}

func (a admin) Get(_ context.Context, id queue.ID) (*queue.Envelope, error) {
	if m := a.store.messages[id]; m != nil {
		return m.e, nil
	}
	return nil, queue.ErrNotFound
}

// crash leaves a queue with four messages in it and a log as a crash may: of
// the first message there is nothing, of the second that it was accepted, of
// the third that it was delivered too, of the fourth that it was put off; and of a
// message that is no longer queued that it was delivered.
func crash(t *testing.T, w *world) (es []*queue.Envelope, past *logging.Recall) {
	t.Helper()
	dir := t.TempDir()
	log, err := logging.Open(logging.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	before := New(*w.config.Load(), w.store, nil, domains(w.limits.Load), w.hop, log)
	attempt := func(e *queue.Envelope, state queue.State) {
		before.logAttempt(e, &queue.Outcome{State: state, Reply: queue.Reply{Code: 250}, Next: time.Now()}, &Result{}, time.Now())
	}
	for i := range 5 {
		e := envelope(queue.ForwardPath("b\u202e@example.net"), "c@example.com")
		e.Arrived = time.Now().UTC()
		e.ID = queue.NewID(e.Arrived)
		if i < 4 {
			es = append(es, e)
			w.store.messages[e.ID] = &stored{e: e, claimed: map[queue.Destination]bool{}}
		}
		if i > 0 {
			before.logAccepted(e)
		}
		switch i {
		case 2, 4:
			attempt(e, queue.Delivered)
		case 3:
			attempt(e, queue.Waiting)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	past, err = logging.RecallLast(t.Context(), logging.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return es, past
}

func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.admin = admin{store: w.store}
		es, past := crash(t, w)
		w.began = time.Now().Add(time.Second)
		// One that a session of the new process is taking: its record is that session's to write.
		taken := envelope("d@example.net")
		taken.Arrived = w.began
		taken.ID = queue.NewID(taken.Arrived)
		w.store.messages[taken.ID] = &stored{e: taken, claimed: map[queue.Destination]bool{}}
		if err := w.Recover(t.Context(), past); err != nil {
			t.Fatal(err)
		}
		if got, want := w.journal.events(), []string{"accepted b\u202e@example.net", "accepted c@example.com"}; !slices.Equal(got, want) || w.journal.records[0].ID != es[0].ID.String() || !w.journal.records[0].Time.Equal(es[0].Arrived) {
			t.Errorf("%q, want %q for the first message alone", got, want)
		}
		w.deliver(t, time.Minute)
		repeated := map[string]int{}
		for _, r := range w.journal.records {
			if r.Repeated {
				repeated[r.ID+" "+r.Event.String()+" "+r.Recipient]++
			}
		}
		want := map[string]int{es[2].ID.String() + " delivered b\u202e@example.net": 1, es[3].ID.String() + " delivered b\u202e@example.net": 1}
		if len(repeated) != 2 || len(want) != 2 {
			t.Errorf("repeated: %v, want %v", repeated, want)
		}
		for key := range want {
			if repeated[key] != 1 {
				t.Errorf("%q was not marked: %v", key, repeated)
			}
		}
	})
}

// Without a crash there is nothing to remember while mail goes through.
func TestRecoverRemembersWhatIsQueuedAlone(t *testing.T) {
	w := newWorld(t)
	w.admin = admin{store: w.store}
	_, past := crash(t, w)
	clear(w.store.messages)
	if err := w.Recover(t.Context(), past); err != nil {
		t.Fatal(err)
	}
	if w.past.Load() != nil || len(w.journal.records) != 0 {
		t.Errorf("%v, %v", w.past.Load(), w.journal.records)
	}
}
