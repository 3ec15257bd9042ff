package relay

import (
	"errors"
	"slices"
	"testing"

	"tacet/logging"
	"tacet/queue"
)

// watched is a journal that looks at the queue when its records are made to last.
type watched struct {
	*journal
	queued func() bool
	seen   []bool
}

func (w *watched) Secure() { w.seen = append(w.seen, w.queued()) }

// What is deleted has its terminal record before it is gone: a kill between the
// two leaves a message that is there, not a recipient of whom nothing is known.
func TestDeleteIsOnRecordFirst(t *testing.T) {
	w := newWorld(t)
	w.admin = admin{store: w.store}
	e := envelope("b@example.net", "c@example.com")
	e.ID = queue.ID{1}
	e.Recipients[1].State = queue.Delivered
	w.store.messages[e.ID] = &stored{e: e}
	w.owing.Store(e.ID, struct{}{})
	log := &watched{journal: w.journal, queued: func() bool { return w.store.messages[e.ID] != nil }}
	w.Relay.journal = log
	if err := w.Delete(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if got, want := w.journal.events(), []string{logging.Deleted.String() + " b@example.net"}; !slices.Equal(got, want) {
		t.Errorf("on record is %q, want %q", got, want)
	}
	if !slices.Equal(log.seen, []bool{true}) || log.queued() {
		t.Errorf("queued when the records were made to last: %v; afterwards: %v", log.seen, log.queued())
	}
	if _, owes := w.owing.Load(e.ID); owes {
		t.Error("something is remembered of what is gone")
	}
	if err := w.Delete(t.Context(), e.ID); !errors.Is(err, queue.ErrNotFound) || len(w.journal.records) != 1 {
		t.Errorf("once more: %v, %d records", err, len(w.journal.records))
	}
}
