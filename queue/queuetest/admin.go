package queuetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"tacet/queue"
)

func testHold(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example", "b@two.example")
	put(t, s, e, content(10))
	if err := s.Hold(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		noClaim(t, s, "one.example", now.Add(time.Hour))
		noClaim(t, s, "two.example", now.Add(time.Hour))
		if st := s.Stats(); st.Held != 1 || st.Waiting != 0 || st.Messages != 1 {
			t.Fatalf("%+v", st)
		}
		got, err := s.Get(t.Context(), e.ID)
		if err != nil || got.Recipients[0].State != queue.Held || got.Recipients[1].State != queue.Held {
			t.Fatalf("%v %+v", err, got)
		}
		if err := s.Retry(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			s = s.Reopen(t)
		}
	}
	if err := s.Unhold(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen(t)
	if st := s.Stats(); st.Held != 0 || st.Waiting != 2 {
		t.Fatalf("%+v", st)
	}
	for _, d := range []queue.Destination{"one.example", "two.example"} {
		c := claim(t, s, d, now.Add(time.Hour))
		settle(t, s, c, all(c, delivered)...)
	}
	empty(t, s)
}

func testHoldUnderDelivery(t *testing.T, s Engine) {
	now := time.Now()
	at := now.Add(time.Second)
	for _, end := range []string{"deferred", "released", "delivered"} {
		e := message(now, "a@one.example")
		put(t, s, e, content(10))
		c := claim(t, s, "one.example", at)
		if err := s.Hold(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		switch end {
		case "deferred":
			settle(t, s, c, deferred(0, at))
		case "released":
			s.Release(c)
		case "delivered":
			settle(t, s, c, delivered(0))
			empty(t, s)
			continue
		}
		noClaim(t, s, "one.example", now.Add(time.Hour))
		got, err := s.Get(t.Context(), e.ID)
		if err != nil || got.Recipients[0].State != queue.Held {
			t.Fatalf("%s: %v %+v", end, err, got)
		}
		s = s.Reopen(t)
		noClaim(t, s, "one.example", now.Add(time.Hour))
		if _, err := s.Delete(t.Context(), e.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// leaving wants a message of which it was just told that it is deleted to be there, and to stay where it is.
func leaving(t *testing.T, s Engine, e *queue.Envelope) {
	t.Helper()
	if now, err := s.Get(t.Context(), e.ID); err != nil || now.ID != e.ID || e.Recipients[0].Attempts != 1 {
		t.Errorf("while it is deleted: %+v, %v", now, err)
	}
	for what, f := range map[string]func() error{
		"retry":   func() error { return s.Retry(t.Context(), e.ID) },
		"hold":    func() error { return s.Hold(t.Context(), e.ID) },
		"release": func() error { return s.Unhold(t.Context(), e.ID) },
		"delete":  func() error { _, err := s.Delete(t.Context(), e.ID, nil); return err },
	} {
		if err := f(); !errors.Is(err, queue.ErrBusy) {
			t.Errorf("%s while it is deleted: %v", what, err)
		}
	}
	for _, d := range []queue.Destination{"one.example", "two.example"} {
		if _, err := s.RetryAt(t.Context(), d); err != nil {
			t.Error(err)
		}
		noClaim(t, s, d, time.Now().Add(2*time.Hour))
	}
}

func testDelete(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example", "b@two.example")
	put(t, s, e, content(10))
	c := claim(t, s, "one.example", now.Add(time.Second))
	if _, err := s.Delete(t.Context(), e.ID, nil); !errors.Is(err, queue.ErrBusy) {
		t.Fatalf("Delete of a message under delivery: %v", err)
	}
	settle(t, s, c, deferred(0, now.Add(time.Hour)))
	told := 0
	got, err := s.Delete(t.Context(), e.ID, func(e *queue.Envelope) {
		told++
		leaving(t, s, e)
	})
	if err != nil || told != 1 {
		t.Fatal(told, err)
	}
	if got.ID != e.ID || got.Recipients[0].Attempts != 1 {
		t.Fatalf("%+v", got)
	}
	empty(t, s)
	if _, err := s.Delete(t.Context(), e.ID, nil); !errors.Is(err, queue.ErrNotFound) {
		t.Fatalf("Delete of a message that is gone: %v", err)
	}
	s = s.Reopen(t)
	empty(t, s)
	for _, f := range []func() error{
		func() error { return s.Retry(t.Context(), e.ID) },
		func() error { return s.Hold(t.Context(), e.ID) },
		func() error { return s.Unhold(t.Context(), e.ID) },
	} {
		if err := f(); !errors.Is(err, queue.ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound", err)
		}
	}
}

func testRetry(t *testing.T, s Engine) {
	now := time.Now()
	e, other := message(now, "a@one.example", "b@two.example"), message(now, "a@one.example")
	for _, e := range []*queue.Envelope{e, other} {
		for i := range e.Recipients {
			e.Recipients[i].Next = now.Add(time.Hour)
		}
		put(t, s, e, content(10))
	}
	noClaim(t, s, "one.example", now.Add(time.Minute))
	if err := s.Retry(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen(t)
	at := time.Now()
	for _, d := range []queue.Destination{"one.example", "two.example"} {
		if c := claim(t, s, d, at); c.Envelope.ID != e.ID {
			t.Fatal("another message became due")
		}
	}
	noClaim(t, s, "one.example", at)
}

func testRetryAll(t *testing.T, s Engine) {
	now := time.Now()
	ids := make(map[queue.ID]bool)
	for i := range 5 {
		e := message(now, "a@one.example", "b@two.example")
		ids[e.ID] = true
		put(t, s, e, content(10))
		for _, d := range []queue.Destination{"one.example", "two.example"} {
			c := claim(t, s, d, now.Add(time.Second))
			settle(t, s, c, deferred(c.Recipients[0], now.Add(time.Duration(i+1)*time.Hour)))
		}
	}
	held := message(now, "a@one.example")
	put(t, s, held, content(10))
	if err := s.Hold(t.Context(), held.ID); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen(t)
	if n, err := s.RetryAll(t.Context()); err != nil || n != 5 {
		t.Fatalf("RetryAll: %d, %v", n, err)
	}
	at := time.Now()
	c := claim(t, s, "one.example", at)
	settle(t, s, c, deferred(0, now.Add(9*time.Hour))) // deferred anew: not due by the old word
	delete(ids, c.Envelope.ID)
	s = s.Reopen(t)
	for range len(ids) {
		c := claim(t, s, "one.example", at)
		if !ids[c.Envelope.ID] {
			t.Fatal("a message is due that was not to be")
		}
		delete(ids, c.Envelope.ID)
	}
	noClaim(t, s, "one.example", at)
	for range 5 {
		claim(t, s, "two.example", at)
	}
}

// testRetryAt makes one destination due: what was deferred there comes in the order of its
// age, before what is younger, and nothing else is due.
func testRetryAt(t *testing.T, s Engine) {
	now := time.Now()
	var ids []queue.ID
	for i := range 4 {
		e := message(now.Add(time.Duration(i-10)*time.Minute), "a@one.example", "b@two.example")
		ids = append(ids, e.ID)
		put(t, s, e, content(10))
	}
	for _, d := range []queue.Destination{"one.example", "two.example"} {
		for range 3 { // the fourth stays due
			c := claim(t, s, d, now)
			settle(t, s, c, deferred(c.Recipients[0], now.Add(time.Hour)))
		}
	}
	if n, err := s.RetryAt(t.Context(), "none.example"); err != nil || n != 0 {
		t.Fatalf("RetryAt where nothing waits: %d, %v", n, err)
	}
	if n, err := s.RetryAt(t.Context(), "one.example"); err != nil || n != 3 {
		t.Fatalf("RetryAt: %d, %v", n, err)
	}
	s = s.Reopen(t)
	at := time.Now()
	for _, id := range ids {
		if c := claim(t, s, "one.example", at); c.Envelope.ID != id {
			t.Fatal("a younger message goes first")
		}
	}
	if c := claim(t, s, "two.example", at); c.Envelope.ID != ids[3] {
		t.Fatal("another destination became due")
	}
	noClaim(t, s, "two.example", at)
}

func testList(t *testing.T, s Engine) {
	now := time.Now()
	var es []*queue.Envelope
	for i, r := range []struct {
		sender queue.ReversePath
		to     []string
		age    time.Duration
	}{
		{"Alice@example.org", []string{"x@one.example"}, 3 * time.Hour},
		{"bob@example.org", []string{"x@one.example", "y@two.example"}, 2 * time.Hour},
		{"", []string{"y@TWO.example"}, time.Hour},
	} {
		e := message(now.Add(-r.age), r.to...)
		e.Sender = r.sender
		es = append(es, e)
		put(t, s, e, content(i))
	}
	if err := s.Hold(t.Context(), es[1].ID); err != nil {
		t.Fatal(err)
	}
	check := func(f queue.Filter, want ...int) {
		t.Helper()
		var got []int
		for _, e := range list(t, s, f) {
			got = append(got, slices.IndexFunc(es, func(x *queue.Envelope) bool { return x.ID == e.ID }))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("List(%+v) gave %v, want %v", f, got, want)
		}
	}
	for range 2 {
		check(queue.Filter{}, 0, 1, 2)
		check(queue.Filter{Sender: "aliCE@example.org"}, 0)
		check(queue.Filter{Sender: "<>"}, 2)
		check(queue.Filter{Domain: "two.EXAMPLE"}, 1, 2)
		check(queue.Filter{Domain: "none.example"})
		check(queue.Filter{State: new(queue.Held)}, 1)
		check(queue.Filter{State: new(queue.Waiting), Domain: "two.example"}, 2)
		check(queue.Filter{Older: 90 * time.Minute}, 0, 1)
		check(queue.Filter{Since: es[1].Arrived}, 1, 2)
		check(queue.Filter{Since: now}) // none
		s = s.Reopen(t)
	}
	for range s.List(t.Context(), queue.Filter{}) {
		break // ending early is allowed
	}
}

func testStats(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example", "b@two.example"), content(100))
	put(t, s, message(now, "a@one.example"), content(11))
	held := message(now, "a@three.example")
	put(t, s, held, content(1000))
	if err := s.Hold(t.Context(), held.ID); err != nil {
		t.Fatal(err)
	}
	c := claim(t, s, "two.example", now.Add(time.Second))
	want := queue.Stats{Messages: 3, Waiting: 2, Active: 1, Held: 1, Destinations: 1, Bytes: 1111}
	if got := s.Stats(); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	s.Release(c)
	s = s.Reopen(t)
	want = queue.Stats{Messages: 3, Waiting: 3, Held: 1, Destinations: 2, Bytes: 1111}
	if got := s.Stats(); got != want {
		t.Fatalf("after reopening: %+v, want %+v", got, want)
	}
}
