package queuetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// Engine is what the suite tests. Recipients wait in the queue that
// [Destination] names.
type Engine interface {
	queue.Store
	queue.Admin
	// Reopen closes the engine, in an orderly way, and opens it again on the
	// same data. It returns once everything queued is known.
	Reopen(t testing.TB) Engine
}

// Destination is the routing that the suite expects of an engine: the
// recipient's domain in lower case.
func Destination(p queue.ForwardPath) queue.Destination {
	return queue.Destination(strings.ToLower(string(p.Domain())))
}

// Run runs the suite. open opens an empty engine, which is closed when the test ends.
func Run(t *testing.T, open func(t testing.TB) Engine) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Engine)
	}{
		{"RoundTrip", testRoundTrip},
		{"EveryField", testEveryField},
		{"EmptyContent", testEmptyContent},
		{"Streamed", testStreamed},
		{"FailingReader", testFailingReader},
		{"RefusedPut", testRefusedPut},
		{"ClaimIsExclusive", testClaimIsExclusive},
		{"ReleaseGivesBack", testReleaseGivesBack},
		{"SettledIsGone", testSettledIsGone},
		{"SettleTwice", testSettleTwice},
		{"SettlePerRecipient", testSettlePerRecipient},
		{"SeveralDestinations", testSeveralDestinations},
		{"DeferralOrder", testDeferralOrder},
		{"DeferredKeepsState", testDeferredKeepsState},
		{"Due", testDue},
		{"Fair", testFair},
		{"ManySenders", testManySenders},
		{"Report", testReport},
		{"Owed", testOwed},
		{"OwedMeanwhile", testOwedMeanwhile},
		{"OwedOvertaken", testOwedOvertaken},
		{"Hold", testHold},
		{"HoldUnderDelivery", testHoldUnderDelivery},
		{"Delete", testDelete},
		{"Retry", testRetry},
		{"RetryAll", testRetryAll},
		{"RetryAt", testRetryAt},
		{"List", testList},
		{"Stats", testStats},
		{"ContextEnds", testContextEnds},
		{"Concurrent", testConcurrent},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// message makes an envelope for the recipients that came at the time.
func message(at time.Time, recipients ...string) *queue.Envelope {
	e := &queue.Envelope{ID: queue.NewID(at), Arrived: at.UTC(), Sender: "sender@example.org", Subject: "subject"}
	for _, r := range recipients {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: queue.ForwardPath(r)})
	}
	return e
}

// content makes n octets that no two calls share.
func content(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	seed[0], seed[1] = byte(n), byte(n>>8)
	rand.NewChaCha8(seed).Read(b)
	return b
}

func put(t testing.TB, s queue.Store, e *queue.Envelope, head []byte) {
	t.Helper()
	if err := s.Put(t.Context(), e, head, nil); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

// claim claims what must be there.
func claim(t testing.TB, s queue.Store, d queue.Destination, now time.Time) *queue.Claim {
	t.Helper()
	c := tryClaim(t, s, d, now)
	if c == nil {
		t.Fatalf("Claim(%s): nothing is due", d)
	}
	return c
}

func tryClaim(t testing.TB, s queue.Store, d queue.Destination, now time.Time) *queue.Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), d, now)
	if err != nil {
		t.Fatalf("Claim(%s): %v", d, err)
	}
	return c
}

func noClaim(t testing.TB, s queue.Store, d queue.Destination, now time.Time) {
	t.Helper()
	if c := tryClaim(t, s, d, now); c != nil {
		t.Fatalf("Claim(%s) gave out %s, want nothing", d, c.Envelope.ID)
	}
}

func settle(t testing.TB, s queue.Store, c *queue.Claim, outcomes ...queue.Outcome) {
	t.Helper()
	if err := s.Settle(t.Context(), c, queue.Settlement{Outcomes: outcomes}); err != nil {
		t.Fatalf("Settle: %v", err)
	}
}

func delivered(recipient int) queue.Outcome {
	return queue.Outcome{Recipient: recipient, State: queue.Delivered, Reply: queue.Reply{Code: 250}}
}

func deferred(recipient int, next time.Time) queue.Outcome {
	return queue.Outcome{Recipient: recipient, State: queue.Waiting, Next: next, Reply: queue.Reply{Code: 451, Text: "later"}}
}

func all(c *queue.Claim, f func(int) queue.Outcome) []queue.Outcome {
	var outcomes []queue.Outcome
	for _, i := range c.Recipients {
		outcomes = append(outcomes, f(i))
	}
	return outcomes
}

// body reads a claim's content.
func body(t testing.TB, c *queue.Claim) []byte {
	t.Helper()
	r, err := c.Content.Reader()
	if err != nil {
		t.Fatalf("open content: %v", err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatalf("read content: %v", err)
	}
	return b
}

func list(t testing.TB, s queue.Admin, f queue.Filter) []*queue.Envelope {
	t.Helper()
	var es []*queue.Envelope
	for e, err := range s.List(t.Context(), f) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		es = append(es, e)
	}
	return es
}

func empty(t testing.TB, s Engine) {
	t.Helper()
	if es := list(t, s, queue.Filter{}); len(es) != 0 {
		t.Fatalf("%d messages are queued, want none", len(es))
	}
	if st := s.Stats(); st != (queue.Stats{}) {
		t.Fatalf("Stats of an empty queue: %+v", st)
	}
}

// same tells how two envelopes differ, empty if they do not.
func same(a, b *queue.Envelope) string {
	x, y := *a, *b
	if !x.Arrived.Equal(y.Arrived) {
		return "Arrived differs"
	}
	x.Arrived, y.Arrived = time.Time{}, time.Time{}
	if len(x.Recipients) != len(y.Recipients) {
		return "number of recipients differs"
	}
	for i := range x.Recipients {
		r, q := x.Recipients[i], y.Recipients[i]
		if !r.Next.Equal(q.Next) {
			return fmt.Sprintf("Next of recipient %d: %v and %v", i, r.Next, q.Next)
		}
		r.Next, q.Next = time.Time{}, time.Time{}
		if (r.Owed == nil) != (q.Owed == nil) || r.Owed != nil && *r.Owed != *q.Owed {
			return fmt.Sprintf("recipient %d owes %+v and %+v", i, r.Owed, q.Owed)
		}
		r.Owed, q.Owed = nil, nil
		if r != q {
			return fmt.Sprintf("recipient %d: %+v and %+v", i, r, q)
		}
	}
	x.Recipients, y.Recipients = nil, nil
	if fmt.Sprintf("%+v", x) != fmt.Sprintf("%+v", y) {
		return fmt.Sprintf("%+v and %+v", x, y)
	}
	return ""
}

func testRoundTrip(t *testing.T, s Engine) {
	now := time.Now()
	var want []*queue.Envelope
	for i, n := range []int{1, 100, 5 << 10, 64 << 10, queue.InMemory} {
		e := message(now.Add(time.Duration(i)*time.Millisecond), "a@one.example")
		want = append(want, e)
		put(t, s, e, content(n))
		if e.Size != int64(n) {
			t.Fatalf("Put set Size to %d, want %d", e.Size, n)
		}
	}
	for round := range 2 {
		for _, e := range want {
			c := claim(t, s, "one.example", now.Add(time.Second))
			if diff := same(e, c.Envelope); diff != "" {
				t.Fatalf("round %d: %s", round, diff)
			}
			if c.Content.Size != e.Size || !bytes.Equal(body(t, c), content(int(e.Size))) {
				t.Fatalf("round %d: the content of %d octets differs", round, e.Size)
			}
			if !slices.Equal(c.Recipients, []int{0}) || c.Destination != "one.example" {
				t.Fatalf("claimed %v at %s", c.Recipients, c.Destination)
			}
			defer s.Release(c)
		}
		noClaim(t, s, "one.example", now.Add(time.Second))
		if round == 0 {
			s = s.Reopen(t)
		}
	}
}

func testEveryField(t *testing.T, s Engine) {
	e := everyField()
	put(t, s, e, content(10))
	s = s.Reopen(t)
	got, err := s.Get(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := same(e, got); diff != "" {
		t.Fatal(diff)
	}
}

func testEmptyContent(t *testing.T, s Engine) {
	now := time.Now()
	put(t, s, message(now, "a@one.example"), nil)
	large := message(now, "a@one.example")
	if err := s.Put(t.Context(), large, nil, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen(t)
	for range 2 {
		c := claim(t, s, "one.example", now.Add(time.Second))
		if b := body(t, c); len(b) != 0 || c.Content.Size != 0 {
			t.Fatalf("%d octets of an empty content", len(b))
		}
		settle(t, s, c, delivered(0))
	}
	empty(t, s)
}

func testStreamed(t *testing.T, s Engine) {
	now := time.Now()
	for _, n := range []int{1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 3<<20 + 17} {
		e := message(now, "a@one.example")
		b := content(n)
		head := min(n, 1000)
		if err := s.Put(t.Context(), e, b[:head], bytes.NewReader(b[head:])); err != nil {
			t.Fatal(err)
		}
		if e.Size != int64(n) {
			t.Fatalf("Size is %d, want %d", e.Size, n)
		}
		for round := range 2 {
			c := claim(t, s, "one.example", now.Add(time.Second))
			for range 2 { // each Open starts anew
				if got := body(t, c); sha256.Sum256(got) != sha256.Sum256(b) {
					t.Fatalf("round %d: %d octets came back as %d others", round, n, len(got))
				}
			}
			if round == 0 {
				s.Release(c)
				s = s.Reopen(t)
				continue
			}
			settle(t, s, c, delivered(0))
		}
		empty(t, s)
	}
}

// brokenReader fails after n octets.
type brokenReader struct {
	n   int
	err error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, r.err
	}
	n := min(len(p), r.n)
	r.n -= n
	return n, nil
}

func testFailingReader(t *testing.T, s Engine) {
	broken := errors.New("the client went away")
	for _, n := range []int{0, 1, 64 << 10, 1 << 20} {
		e := message(time.Now(), "a@one.example")
		if err := s.Put(t.Context(), e, content(10), &brokenReader{n, broken}); !errors.Is(err, broken) {
			t.Fatalf("Put returned %v, want the reader's error", err)
		}
		empty(t, s)
		noClaim(t, s, "one.example", time.Now().Add(time.Hour))
	}
	empty(t, s.Reopen(t))
}

func testRefusedPut(t *testing.T, s Engine) {
	now := time.Now()
	if err := s.Put(t.Context(), message(now), nil, nil); err == nil {
		t.Error("an envelope without recipients was taken")
	}
	settled := message(now, "a@one.example")
	settled.Recipients[0].State = queue.Delivered
	if err := s.Put(t.Context(), settled, nil, nil); err == nil {
		t.Error("an envelope whose recipients are all settled was taken")
	}
	if err := s.Put(t.Context(), message(now, "a@one.example"), make([]byte, queue.InMemory+1), nil); err == nil {
		t.Error("a head that is too large was taken")
	}
	empty(t, s)
}

func testContextEnds(t *testing.T, s Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, message(time.Now(), "a@one.example"), nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("Put: %v", err)
	}
	empty(t, s)
}
