package logging

import (
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// recallOf writes records, each so long after the one before, and recalls them.
func recallOf(t *testing.T, live bool, records ...timed) *Recall {
	t.Helper()
	base := t.TempDir()
	o := Options{Dir: filepath.Join(base, "log"), KeyDir: filepath.Join(base, "keys"), LiveSealed: live}
	l := openLog(t, o)
	for _, r := range records {
		time.Sleep(r.after)
		if err := l.Write(&r.Record); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, l)
	past, err := RecallLast(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return past
}

type timed struct {
	after time.Duration
	Record
}

func TestRecallTellsWhatWasTold(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			past := recallOf(t, live,
				timed{Record: Record{Event: Accepted, ID: "A", Recipient: "a\x00@example.net"}},
				timed{Record: Record{Event: Deferred, ID: "A", Recipient: "a\x00@example.net", Attempt: 1}},
				timed{after: 24 * time.Hour, Record: Record{Event: Failed, ID: "B", Recipient: "b@example.net", Attempt: 2}},
				timed{Record: Record{Event: Deleted, ID: "C", Recipient: "c@example.net"}})
			for _, c := range []struct {
				r    Record
				want bool
			}{
				{Record{Event: Deferred, ID: "A", Recipient: "a\x00@example.net", Attempt: 1}, true},
				{Record{Event: Delivered, ID: "A", Recipient: "a\x00@example.net", Attempt: 1}, true},
				{Record{Event: Delivered, ID: "A", Recipient: "a\x00@example.net", Attempt: 2}, false},
				{Record{Event: Delivered, ID: "A", Recipient: "z@example.net", Attempt: 1}, false},
				{Record{Event: Expired, ID: "B", Recipient: "b@example.net", Attempt: 3}, true},
				{Record{Event: Deferred, ID: "B", Recipient: "b@example.net", Attempt: 3}, false},
				{Record{Event: Delivered, ID: "C", Recipient: "c@example.net", Attempt: 1}, true},
				{Record{Event: Held, ID: "C", Recipient: "c@example.net"}, false},
			} {
				if got := past.Repeats(&c.r); got != c.want {
					t.Errorf("%v %s of attempt %d: %v", c.r.Event, c.r.ID, c.r.Attempt, got)
				}
			}
			if !past.Accepted("A", "a\x00@example.net") || past.Accepted("B", "b@example.net") {
				t.Error("acceptance")
			}
			if want := time.Now().Add(-recallSpan); !past.Since.Equal(want) {
				t.Errorf("it reaches back to %v, want %v", past.Since, want)
			}
			past.Keep(func(id string) bool { return id == "B" })
			if past.Empty() || past.Repeats(&Record{Event: Delivered, ID: "C", Recipient: "c@example.net"}) || !past.Repeats(&Record{Event: Failed, ID: "B", Recipient: "b@example.net", Attempt: 2}) {
				t.Error("what is not queued is remembered, or what is queued is not")
			}
		})
	}
}

// A log that is longer than what is looked at is known from there on alone.
func TestRecallIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []timed
		for i := range recallLines + 10 {
			records = append(records, timed{Record: Record{Event: Accepted, ID: strconv.Itoa(i), Recipient: "a@example.net", Time: time.Now().Add(time.Duration(i) * time.Millisecond)}})
		}
		past := recallOf(t, false, records...)
		if past.Accepted("9", "a@example.net") || !past.Accepted("10", "a@example.net") || !past.Since.Equal(records[10].Time) {
			t.Errorf("it reaches back to %v, want %v", past.Since, records[10].Time)
		}
		if empty := recallOf(t, false); !empty.Since.Equal(time.Now().Add(-recallSpan)) || !empty.Empty() {
			t.Errorf("of an empty log: %+v", empty)
		}
	})
}
