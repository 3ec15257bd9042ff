package queuetest

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacet/queue"
)

func owing(kind queue.Notify, by time.Time) *queue.Owed {
	return &queue.Owed{Kind: kind, By: by.UTC(), At: by.Add(-time.Minute).UTC(), Host: netip.MustParseAddr("192.0.2.1")}
}

func failed(recipient int, o *queue.Owed) queue.Outcome {
	return queue.Outcome{Recipient: recipient, State: queue.Failed, Reply: queue.Reply{Code: 550, Text: "no"}, Owed: o}
}

// testOwed has reports gathered: they keep a message until they are made, all
// of them together, and the report comes with the end of the message.
func testOwed(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example", "b@two.example", "c@three.example"), content(10))
	later := now.Add(time.Minute)
	for i, d := range []queue.Destination{"one.example", "two.example"} {
		c := claim(t, s, d, now.Add(time.Second))
		settle(t, s, c, failed(i, owing(queue.NotifyFailure, later.Add(time.Duration(i)*time.Second))))
	}
	noClaim(t, s, queue.Reports, now.Add(time.Second)) // one recipient waits still
	if ready, _ := s.Due(now.Add(time.Second)); slices.Contains(ready, queue.Reports) {
		t.Fatal("reports are due before their time")
	}
	s = s.Reopen(t)
	if ready, _ := s.Due(later.Add(time.Second)); !slices.Contains(ready, queue.Reports) {
		t.Fatal("reports do not fall due")
	}
	c := claim(t, s, queue.Reports, later)
	if !slices.Equal(c.Recipients, []int{0, 1}) || string(body(t, c)) != string(content(10)) {
		t.Fatalf("claimed %v, want both that failed", c.Recipients)
	}
	for i := range c.Recipients {
		if o, want := c.Envelope.Recipients[i].Owed, owing(queue.NotifyFailure, later.Add(time.Duration(i)*time.Second)); *o != *want {
			t.Fatalf("recipient %d owes %+v, want %+v", i, o, want)
		}
	}
	s.Release(c)
	last := claim(t, s, "three.example", now.Add(time.Second))
	settle(t, s, last, delivered(2))
	c = claim(t, s, queue.Reports, now.Add(time.Second)) // nothing waits any more
	report := message(now, "sender@home.example")
	outcomes := []queue.Outcome{{Recipient: 0}}
	if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: outcomes, Report: &queue.Report{Envelope: report, Content: content(700)}}); err != nil {
		t.Fatal(err)
	}
	c = claim(t, s, queue.Reports, now.Add(time.Second))
	if !slices.Equal(c.Recipients, []int{1}) || c.Envelope.Recipients[1].Attempts != 1 || c.Envelope.Recipients[1].State != queue.Failed {
		t.Fatalf("claimed %v of %+v, want the one that owes still", c.Recipients, c.Envelope.Recipients)
	}
	settle(t, s, c, queue.Outcome{Recipient: 1})
	for range 2 {
		if es := list(t, s, queue.Filter{}); len(es) != 1 || es[0].ID != report.ID {
			t.Fatalf("%d messages, want the report alone", len(es))
		}
		s = s.Reopen(t)
	}
}

// testOwedMeanwhile has a recipient settled while a report on it is under way.
func testOwedMeanwhile(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example", "b@two.example"), content(10))
	at := now.Add(time.Second)
	c := claim(t, s, "one.example", at)
	settle(t, s, c, queue.Outcome{Recipient: 0, State: queue.Waiting, Next: now, Owed: owing(queue.NotifyDelay, now)})
	warning := claim(t, s, queue.Reports, at)
	noClaim(t, s, queue.Reports, at)
	c = claim(t, s, "one.example", at) // its delivery goes on
	settle(t, s, c, failed(0, owing(queue.NotifyFailure, now)))
	settle(t, s, warning, queue.Outcome{Recipient: 0})
	c = claim(t, s, queue.Reports, at)
	if o := c.Envelope.Recipients[0].Owed; o == nil || o.Kind != queue.NotifyFailure {
		t.Fatalf("owed is %+v, want the failure that came since", o)
	}
	settle(t, s, c, queue.Outcome{Recipient: 0})
	noClaim(t, s, queue.Reports, at)

	c = claim(t, s, "two.example", at)
	settle(t, s, c, queue.Outcome{Recipient: 1, State: queue.Waiting, Next: now, Owed: owing(queue.NotifyDelay, at.Add(time.Hour))})
	c = claim(t, s, "two.example", at)
	settle(t, s, c, delivered(1)) // late no more
	noClaim(t, s, queue.Reports, at.Add(2*time.Hour))
	empty(t, s)
}

// testOwedOvertaken has the last recipient delivered to while a warning about
// it is under way: the message is over, and the claim of the warning is of
// nothing, whatever has come since.
func testOwedOvertaken(t *testing.T, s Engine) {
	now := time.Now()
	at := now.Add(time.Second)
	for _, end := range []func(*queue.Claim){
		s.Release,
		func(c *queue.Claim) {
			st := queue.Settlement{Outcomes: []queue.Outcome{{Recipient: 0}}, Report: &queue.Report{Envelope: message(now, "c@two.example")}}
			if err := s.Settle(t.Context(), c, st); !errors.Is(err, queue.ErrNotFound) {
				t.Fatalf("Settle of what is over: %v, want ErrNotFound", err)
			}
		},
	} {
		put(t, s, message(now, "a@one.example"), content(10))
		c := claim(t, s, "one.example", at)
		settle(t, s, c, queue.Outcome{Recipient: 0, State: queue.Waiting, Next: now, Owed: owing(queue.NotifyDelay, now)})
		warning := claim(t, s, queue.Reports, at)
		settle(t, s, claim(t, s, "one.example", at), delivered(0))
		put(t, s, message(now, "b@two.example"), content(20))
		end(warning)
		noClaim(t, s, queue.Reports, at)
		next := claim(t, s, "two.example", at)
		if want := content(20); string(body(t, next)) != string(want) {
			t.Fatal("the message that came since is not as it was")
		}
		if st := s.Stats(); st.Messages != 1 || st.Damaged != 0 {
			t.Fatalf("stats are %+v, want one message", st)
		}
		settle(t, s, next, delivered(0))
		empty(t, s)
	}
}
