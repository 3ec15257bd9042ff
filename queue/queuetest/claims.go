package queuetest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// everyField is an envelope with no field left empty.
func everyField() *queue.Envelope {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC)
	return &queue.Envelope{
		ID: queue.NewID(at), Arrived: at, Sender: `"odd sender"@example.org`,
		Origin: queue.Origin{
			Submission: true, User: "user", Client: netip.MustParseAddr("2001:db8::1"), Local: true,
			Helo: "client.example", ID: "4Yab-c.1_d",
			TLS: queue.TLS{Version: tls.VersionTLS13, Cipher: tls.TLS_AES_128_GCM_SHA256, Verified: queue.VerifiedDANE, None: queue.NoTLSOff},
		},
		Body: queue.BodyBinaryMIME, UTF8: true, RequireTLS: true, TLSOptional: true, Return: queue.ReturnFull,
		EnvID: "envelope id", Subject: strings.Repeat("ü", 200),
		Recipients: []queue.Recipient{
			{Path: "a@one.example"},
			{
				Path: "Postmaster", Notify: queue.NotifySuccess | queue.NotifyDelay, ORcpt: "rfc822;b@two.example",
				State: queue.Waiting, Attempts: 300, Next: at.Add(time.Hour), Warned: true,
				Last: queue.Reply{
					Code: 451, Enhanced: queue.Enhanced{4, 7, 123}, Text: strings.Repeat("x", 1000),
					Stage: queue.StageEnd, Cause: queue.CauseAmbiguous, RemoteID: "4X-1._z",
				},
			},
			{Path: "c@one.example", State: queue.Held},
			{Path: "d@one.example", State: queue.Failed, Last: queue.Reply{Code: 550}, Owed: owing(queue.NotifyFailure, at)},
		},
	}
}

func testClaimIsExclusive(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example", "b@ONE.example"), content(10))
	c := claim(t, s, "one.example", now.Add(time.Second))
	if !slices.Equal(c.Recipients, []int{0, 1}) {
		t.Fatalf("claimed %v, want both recipients", c.Recipients)
	}
	noClaim(t, s, "one.example", now.Add(time.Hour))
	noClaim(t, s, "other.example", now.Add(time.Hour))
	settle(t, s, c, all(c, delivered)...)
	noClaim(t, s, "one.example", now.Add(time.Hour))
}

func testReleaseGivesBack(t *testing.T, s Engine) {
	now := time.Now()
	waiting := []*queue.Envelope{message(now.Add(-2*time.Second), "a@one.example"), message(now.Add(-time.Second), "a@one.example")}
	for _, e := range waiting {
		put(t, s, e, content(10))
	}
	for round := range 4 {
		c := claim(t, s, "one.example", now.Add(time.Minute))
		if c.Envelope.ID != waiting[round%2].ID {
			t.Fatalf("round %d: what was released is not behind what else is due", round)
		}
		s.Release(c)
		s.Release(c) // a second time does nothing
	}
	if st := s.Stats(); st.Active != 0 || st.Waiting != 2 {
		t.Fatalf("%+v", st)
	}
}

func testSettledIsGone(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example")
	put(t, s, e, content(5000))
	c := claim(t, s, "one.example", now.Add(time.Second))
	settle(t, s, c, delivered(0))
	empty(t, s)
	if _, err := s.Get(t.Context(), e.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Fatalf("Get: %v", err)
	}
	if ready, next := s.Due(now.Add(time.Hour)); len(ready) != 0 || !next.IsZero() {
		t.Fatalf("Due: %v %v", ready, next)
	}
	s = s.Reopen(t)
	empty(t, s)
	noClaim(t, s, "one.example", now.Add(time.Hour))
}

func testSettleTwice(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example"), content(10))
	c := claim(t, s, "one.example", now.Add(time.Second))
	s.Release(c)
	again := claim(t, s, "one.example", now.Add(time.Second))
	if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: []queue.Outcome{delivered(0)}}); err == nil {
		t.Fatal("a released claim was settled")
	}
	if err := s.Settle(t.Context(), again, queue.Settlement{Outcomes: []queue.Outcome{delivered(1)}}); err == nil {
		t.Fatal("a recipient outside of the claim was settled")
	}
	settle(t, s, again, delivered(0))
	if err := s.Settle(t.Context(), again, queue.Settlement{Outcomes: []queue.Outcome{delivered(0)}}); err == nil {
		t.Fatal("a claim was settled twice")
	}
	s.Release(again)
	empty(t, s)
}

func testSettlePerRecipient(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example", "b@one.example", "c@one.example", "d@one.example")
	put(t, s, e, content(10))
	c := claim(t, s, "one.example", now.Add(time.Second))
	later := now.Add(time.Hour)
	settle(t, s, c, delivered(0), deferred(1, later),
		queue.Outcome{Recipient: 2, State: queue.Failed, Reply: queue.Reply{Code: 550}}) // of 3 nothing is said
	for round := range 2 {
		c = claim(t, s, "one.example", now.Add(time.Minute))
		if !slices.Equal(c.Recipients, []int{3}) {
			t.Fatalf("round %d: claimed %v, want the recipient without an outcome", round, c.Recipients)
		}
		got := c.Envelope.Recipients
		for i, want := range []queue.State{queue.Delivered, queue.Waiting, queue.Failed, queue.Waiting} {
			if got[i].State != want {
				t.Fatalf("recipient %d is %v, want %v", i, got[i].State, want)
			}
		}
		if got[1].Attempts != 1 || got[3].Attempts != 0 || got[2].Last.Code != 550 || !got[1].Next.Equal(later) {
			t.Fatalf("%+v", got)
		}
		s.Release(c)
		if round == 0 {
			s = s.Reopen(t)
		}
	}
	c = claim(t, s, "one.example", later)
	if !slices.Equal(c.Recipients, []int{1, 3}) {
		t.Fatalf("claimed %v, want both that wait", c.Recipients)
	}
	if e.Recipients[0].State != queue.Waiting {
		t.Fatal("the envelope that was put has changed")
	}
	settle(t, s, c, delivered(1), delivered(3))
	empty(t, s)
}

func testSeveralDestinations(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example", "b@two.example", "c@one.example", "d@three.example")
	put(t, s, e, content(1000))
	at := now.Add(time.Second)
	one, two := claim(t, s, "one.example", at), claim(t, s, "two.example", at)
	if !slices.Equal(one.Recipients, []int{0, 2}) || !slices.Equal(two.Recipients, []int{1}) {
		t.Fatalf("claimed %v and %v", one.Recipients, two.Recipients)
	}
	if st := s.Stats(); st.Active != 2 || st.Waiting != 1 || st.Messages != 1 {
		t.Fatalf("%+v", st)
	}
	settle(t, s, one, delivered(0), deferred(2, at.Add(time.Minute)))
	settle(t, s, two, deferred(1, at.Add(time.Hour)))
	three := claim(t, s, "three.example", at)
	if got := three.Envelope.Recipients; got[0].State != queue.Delivered || got[2].Attempts != 1 || got[1].Attempts != 1 {
		t.Fatalf("%+v", got)
	}
	if !bytes.Equal(body(t, three), content(1000)) {
		t.Fatal("the content differs")
	}
	settle(t, s, three, delivered(3))
	s = s.Reopen(t)
	noClaim(t, s, "one.example", at)
	one = claim(t, s, "one.example", at.Add(time.Minute))
	if !slices.Equal(one.Recipients, []int{2}) {
		t.Fatalf("claimed %v", one.Recipients)
	}
	settle(t, s, one, delivered(2))
	two = claim(t, s, "two.example", at.Add(time.Hour))
	settle(t, s, two, delivered(1))
	empty(t, s)
}

func testDeferralOrder(t *testing.T, s Engine) {
	now := time.Now()
	next := []time.Duration{3, 1, 2}
	var ids []queue.ID
	for i, d := range next {
		e := message(now.Add(time.Duration(i)*time.Millisecond), "a@one.example")
		ids = append(ids, e.ID)
		put(t, s, e, content(10))
		c := claim(t, s, "one.example", now.Add(time.Second))
		settle(t, s, c, deferred(0, now.Add(d*time.Hour)))
	}
	noClaim(t, s, "one.example", now.Add(time.Minute))
	s = s.Reopen(t)
	noClaim(t, s, "one.example", now.Add(time.Minute))
	for _, want := range []int{1, 2, 0} {
		c := claim(t, s, "one.example", now.Add(10*time.Hour))
		if c.Envelope.ID != ids[want] {
			t.Fatalf("the one due after %d hours was not the next", next[want])
		}
		settle(t, s, c, delivered(0))
	}
}

func testDeferredKeepsState(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example"), content(3000))
	for attempt := 1; attempt <= 5; attempt++ {
		at := now.Add(time.Duration(attempt) * time.Hour)
		c := claim(t, s, "one.example", at)
		if got := c.Envelope.Recipients[0]; got.Attempts != attempt-1 || got.Warned != (attempt > 3) {
			t.Fatalf("before attempt %d: %+v", attempt, got)
		}
		if !bytes.Equal(body(t, c), content(3000)) {
			t.Fatal("the content differs")
		}
		o := deferred(0, at.Add(time.Hour))
		o.Warned = attempt >= 3
		o.Reply.Text = strings.Repeat("reply ", attempt)
		settle(t, s, c, o)
		if attempt%2 == 0 {
			s = s.Reopen(t)
		}
		got, err := s.Get(t.Context(), c.Envelope.ID)
		if err != nil {
			t.Fatal(err)
		}
		if r := got.Recipients[0]; r.Attempts != attempt || r.Last != o.Reply || !r.Next.Equal(o.Next) {
			t.Fatalf("after attempt %d: %+v", attempt, r)
		}
	}
}

func testDue(t *testing.T, s Engine) {
	now := time.Now()
	if ready, next := s.Due(now); ready != nil || !next.IsZero() {
		t.Fatalf("Due of an empty queue: %v %v", ready, next)
	}
	for i, d := range []string{"a", "b", "c", "d", "e"} {
		e := message(now, "x@"+d+".example")
		if i >= 2 {
			e.Recipients[0].Next = now.Add(time.Duration(i) * time.Hour)
		}
		put(t, s, e, content(10))
	}
	check := func(at time.Time, want []queue.Destination, wantNext time.Time) {
		t.Helper()
		ready, next := s.Due(at)
		slices.Sort(ready)
		if !slices.Equal(ready, want) || !next.Equal(wantNext) {
			t.Fatalf("Due: %v, next %v, want %v, next %v", ready, next, want, wantNext)
		}
	}
	at := now.Add(time.Second)
	check(at, []queue.Destination{"a.example", "b.example"}, now.Add(2*time.Hour))
	c := claim(t, s, "a.example", at)
	check(at, []queue.Destination{"b.example"}, now.Add(2*time.Hour))
	s.Release(c)
	check(now.Add(3*time.Hour), []queue.Destination{"a.example", "b.example", "c.example", "d.example"}, now.Add(4*time.Hour))
	check(now.Add(5*time.Hour), []queue.Destination{"a.example", "b.example", "c.example", "d.example", "e.example"}, time.Time{})
}

func testReport(t *testing.T, s Engine) {
	now := time.Now()
	e := message(now, "a@one.example")
	put(t, s, e, content(10))
	c := claim(t, s, "one.example", now.Add(time.Second))
	report := message(now.Add(time.Millisecond), "sender@home.example")
	report.Sender, report.Origin.Local = "", true
	err := s.Settle(t.Context(), c, queue.Settlement{
		Outcomes: []queue.Outcome{{Recipient: 0, State: queue.Failed, Reply: queue.Reply{Code: 550}}},
		Report:   &queue.Report{Envelope: report, Content: content(700)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if es := list(t, s, queue.Filter{}); len(es) != 1 || es[0].ID != report.ID {
			t.Fatalf("round %d: %d messages, want the report", round, len(es))
		}
		c = claim(t, s, "home.example", now.Add(time.Second))
		if diff := same(report, c.Envelope); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(body(t, c), content(700)) {
			t.Fatal("the report's content differs")
		}
		s.Release(c)
		if round == 0 {
			s = s.Reopen(t)
		}
	}
}
