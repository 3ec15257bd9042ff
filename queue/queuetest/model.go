package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tacet/queue"
)

// testConcurrent has many sessions and lanes at work at once: each message
// must be delivered to each recipient exactly once.
func testConcurrent(t *testing.T, s Engine) {
	const senders, each, lanes = 8, 40, 3
	destinations := []queue.Destination{"one.example", "two.example", "three.example"}
	total := senders * each * len(destinations)
	b := &bustle{s: s, seen: make(map[delivery]int), left: total, over: make(chan struct{})}
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() { b.send(t, i*each, each) })
	}
	for _, d := range destinations {
		for lane := range lanes {
			wg.Go(func() { b.deliver(t, d, lane) })
		}
	}
	wg.Wait()
	if len(b.seen) != total {
		t.Fatalf("%d deliveries, want %d", len(b.seen), total)
	}
	for d, n := range b.seen {
		if n != 1 {
			t.Fatalf("%v was delivered %d times", d, n)
		}
	}
	empty(t, s)
	empty(t, s.Reopen(t))
}

type delivery struct {
	id        queue.ID
	recipient int
}

// bustle counts what many sessions and lanes deliver.
type bustle struct {
	s    Engine
	mu   sync.Mutex
	seen map[delivery]int
	left int
	over chan struct{} // closed when nothing is left
}

// send puts each messages, whose sizes begin with first.
func (b *bustle) send(t *testing.T, first, each int) {
	for n := range each {
		e := message(time.Now(), "a@one.example", "b@two.example", "c@three.example")
		text := content(100 + first + n)
		var err error
		if n%10 == 9 {
			err = b.s.Put(t.Context(), e, text[:50], bytes.NewReader(text[50:]))
		} else {
			err = b.s.Put(t.Context(), e, text, nil)
		}
		if err != nil {
			t.Errorf("Put: %v", err)
			return
		}
	}
}

// deliver works at a destination until nothing is left anywhere.
func (b *bustle) deliver(t *testing.T, d queue.Destination, lane int) {
	for turn := lane; ; turn++ {
		select {
		case <-b.over:
			return
		case <-t.Context().Done():
			return
		default:
		}
		c, err := b.s.Claim(t.Context(), d, time.Now())
		switch {
		case err != nil:
			t.Errorf("Claim: %v", err)
			return
		case c == nil:
			b.s.Due(time.Now())
		case turn%7 == 0:
			b.s.Release(c)
		case turn%5 == 0:
			settle(t, b.s, c, all(c, func(i int) queue.Outcome { return deferred(i, time.Now()) })...)
		default:
			if text := body(t, c); !bytes.Equal(text, content(int(c.Envelope.Size))) {
				t.Error("a content differs")
			}
			b.delivered(c)
			settle(t, b.s, c, all(c, delivered)...)
		}
	}
}

func (b *bustle) delivered(c *queue.Claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range c.Recipients {
		b.seen[delivery{c.Envelope.ID, i}]++
		if b.left--; b.left == 0 {
			close(b.over)
		}
	}
}

// model is what the queue should hold.
type model struct {
	messages map[queue.ID]*queue.Envelope
	claims   []*queue.Claim
	now      time.Time
}

var modelDomains = [...]queue.Destination{"one.example", "two.example", "three.example"}

// due lists the model's recipients that a claim at d may give out.
func (m *model) due(d queue.Destination) map[queue.ID][]int {
	due := make(map[queue.ID][]int)
	for id, e := range m.messages {
		if d == queue.Reports {
			m.owing(due, e)
		}
		for i, r := range e.Recipients {
			if r.State == queue.Waiting && !r.Next.After(m.now) && Destination(r.Path) == d && !m.claimed(id, i) {
				due[id] = append(due[id], i)
			}
		}
		// A destination's recipients of one message are under delivery together.
		for _, c := range m.claims {
			if c.Envelope.ID == id && c.Destination == d {
				delete(due, id)
			}
		}
	}
	return due
}

// owing adds the recipients of a message that owe a report, if it is time.
func (m *model) owing(due map[queue.ID][]int, e *queue.Envelope) {
	var owed []int
	var by time.Time
	for i, r := range e.Recipients {
		if r.State == queue.Held {
			return
		}
		if r.Owed != nil && (by.IsZero() || r.Owed.By.Before(by)) {
			by = r.Owed.By
		}
		if r.Owed != nil {
			owed = append(owed, i)
		}
	}
	tried := func(r queue.Recipient) bool { return r.State == queue.Waiting && !r.Next.After(by) }
	if len(owed) > 0 && (!by.After(m.now) || !slices.ContainsFunc(e.Recipients, tried)) {
		due[e.ID] = owed
	}
}

func (m *model) claimed(id queue.ID, recipient int) bool {
	return slices.ContainsFunc(m.claims, func(c *queue.Claim) bool {
		return c.Destination != queue.Reports && c.Envelope.ID == id && slices.Contains(c.Recipients, recipient)
	})
}

// testModel runs random operations and compares with the model after each.
func testModel(t *testing.T, s Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{messages: make(map[queue.ID]*queue.Envelope), now: time.Now()}
		defer func() {
			for _, c := range m.claims {
				s.Release(c)
			}
			for id := range m.messages {
				if _, err := s.Delete(t.Context(), id, nil); err != nil {
					t.Fatalf("clean up: %v", err)
				}
			}
		}()
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			m.step(t, rt, &s)
			m.compare(t, rt, s)
		}
	})
}

func (m *model) step(t testing.TB, rt *rapid.T, s *Engine) {
	m.now = time.Now()
	switch op := rapid.IntRange(0, 13).Draw(rt, "op"); op {
	case 0, 1, 2:
		m.put(t, rt, *s)
	case 3, 4, 5:
		m.claim(t, rt, *s)
	case 6, 7, 8:
		m.settle(t, rt, *s)
	case 9:
		if len(m.claims) > 0 {
			i := rapid.IntRange(0, len(m.claims)-1).Draw(rt, "release")
			(*s).Release(m.claims[i])
			m.claims = slices.Delete(m.claims, i, i+1)
		}
	case 10, 11, 12:
		m.admin(t, rt, *s, op)
	case 13:
		for _, c := range m.claims {
			(*s).Release(c)
		}
		m.claims = nil
		*s = (*s).Reopen(t)
	}
}

func (m *model) put(t testing.TB, rt *rapid.T, s Engine) {
	var to []string
	for i := range rapid.IntRange(1, 5).Draw(rt, "recipients") {
		to = append(to, fmt.Sprintf("r%d@%s", i, rapid.SampledFrom(modelDomains[:]).Draw(rt, "domain")))
	}
	e := message(m.now, to...)
	if rapid.Bool().Draw(rt, "later") {
		for i := range e.Recipients {
			e.Recipients[i].Next = m.now.Add(time.Hour)
		}
	}
	b := content(rapid.IntRange(0, 3000).Draw(rt, "size"))
	var err error
	if rapid.IntRange(0, 4).Draw(rt, "streamed") == 0 {
		err = s.Put(t.Context(), e, nil, bytes.NewReader(b))
	} else {
		err = s.Put(t.Context(), e, b, nil)
	}
	if err != nil {
		rt.Fatalf("Put: %v", err)
	}
	m.messages[e.ID] = clone(e)
}

func clone(e *queue.Envelope) *queue.Envelope {
	c := *e
	c.Recipients = slices.Clone(e.Recipients)
	return &c
}

func (m *model) claim(t testing.TB, rt *rapid.T, s Engine) {
	d := rapid.SampledFrom(append(modelDomains[:], queue.Reports)).Draw(rt, "claim")
	m.now = time.Now()
	due := m.due(d)
	c, err := s.Claim(t.Context(), d, m.now)
	switch {
	case err != nil:
		rt.Fatalf("Claim: %v", err)
	case c == nil && len(due) > 0:
		rt.Fatalf("Claim gave out nothing, %d messages are due", len(due))
	case c == nil:
		return
	case !slices.Equal(due[c.Envelope.ID], c.Recipients):
		rt.Fatalf("Claim gave out recipients %v, want %v", c.Recipients, due[c.Envelope.ID])
	}
	if diff := same(m.messages[c.Envelope.ID], c.Envelope); diff != "" {
		rt.Fatalf("claimed envelope: %s", diff)
	}
	if b := body(t, c); !bytes.Equal(b, content(int(c.Envelope.Size))) {
		rt.Fatalf("the content differs")
	}
	m.claims = append(m.claims, c)
}

func (m *model) settle(t testing.TB, rt *rapid.T, s Engine) {
	if len(m.claims) == 0 {
		return
	}
	at := rapid.IntRange(0, len(m.claims)-1).Draw(rt, "settle")
	c := m.claims[at]
	e := m.messages[c.Envelope.ID]
	held := slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool { return r.State == queue.Held })
	st := queue.Settlement{}
	for _, i := range c.Recipients {
		r := &e.Recipients[i]
		o, said := drawOutcome(rt, i, c.Destination == queue.Reports)
		if !said {
			continue
		}
		st.Outcomes = append(st.Outcomes, o)
		if c.Destination == queue.Reports {
			if r.Owed != nil && r.Owed.Kind == c.Envelope.Recipients[i].Owed.Kind {
				r.Owed = nil
			}
			continue
		}
		r.State, r.Next, r.Last = o.State, o.Next, o.Reply
		r.Attempts++
		if o.Owed != nil || r.State.Settled() && r.Owed != nil && r.Owed.Kind == queue.NotifyDelay {
			r.Owed = o.Owed
		}
		if held && o.State == queue.Waiting {
			r.State = queue.Held
		}
	}
	if rapid.IntRange(0, 3).Draw(rt, "report") == 0 {
		report := message(time.Now(), "back@one.example")
		st.Report = &queue.Report{Envelope: report, Content: content(77)}
		defer func() { m.messages[report.ID] = clone(report) }()
	}
	if err := s.Settle(t.Context(), c, st); err != nil {
		rt.Fatalf("Settle: %v", err)
	}
	m.claims = slices.Delete(m.claims, at, at+1)
	if !slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool { return !r.Over() }) {
		delete(m.messages, c.Envelope.ID)
	}
}

// drawOutcome makes up what became of a recipient, if anything is said of it.
func drawOutcome(rt *rapid.T, i int, report bool) (o queue.Outcome, said bool) {
	kind := rapid.IntRange(0, 3).Draw(rt, "outcome")
	by := time.Now().Add(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "next"))
	owes := rapid.Bool().Draw(rt, "owes")
	switch {
	case kind == 0:
		return o, false
	case report:
		return queue.Outcome{Recipient: i}, true
	case kind == 1:
		o = deferred(i, by)
		if owes {
			o.Owed = owing(queue.NotifyDelay, by)
		}
	case kind == 2 && owes:
		o = failed(i, owing(queue.NotifyFailure, by))
	default:
		o = delivered(i)
		if owes {
			o.Owed = owing(queue.NotifySuccess, by)
		}
	}
	return o, true
}

func (m *model) admin(t testing.TB, rt *rapid.T, s Engine, op int) {
	var ids []queue.ID
	for id := range m.messages {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, func(a, b queue.ID) int { return bytes.Compare(a[:], b[:]) })
	id := rapid.SampledFrom(ids).Draw(rt, "id")
	e := m.messages[id]
	switch op {
	case 10:
		if err := s.Hold(t.Context(), id); err != nil {
			rt.Fatalf("Hold: %v", err)
		}
		for i := range e.Recipients {
			if e.Recipients[i].State == queue.Waiting {
				e.Recipients[i].State = queue.Held
			}
		}
	case 11:
		if err := s.Unhold(t.Context(), id); err != nil {
			rt.Fatalf("Unhold: %v", err)
		}
		m.adopt(t, rt, s, id, queue.Held)
	case 12:
		_, err := s.Delete(t.Context(), id, nil)
		busy := slices.ContainsFunc(m.claims, func(c *queue.Claim) bool { return c.Envelope.ID == id })
		switch {
		case busy && !errors.Is(err, queue.ErrBusy):
			rt.Fatalf("Delete of a message under delivery: %v", err)
		case !busy && err != nil:
			rt.Fatalf("Delete: %v", err)
		case !busy:
			delete(m.messages, id)
		}
	}
}

// adopt takes over the times that the engine chose for recipients in the state.
func (m *model) adopt(t testing.TB, rt *rapid.T, s Engine, id queue.ID, was queue.State) {
	got, err := s.Get(t.Context(), id)
	if err != nil {
		rt.Fatalf("Get: %v", err)
	}
	for i := range m.messages[id].Recipients {
		if r := &m.messages[id].Recipients[i]; r.State == was {
			r.State, r.Next = queue.Waiting, got.Recipients[i].Next
		}
	}
}

func (m *model) compare(t testing.TB, rt *rapid.T, s Engine) {
	got := list(t, s, queue.Filter{})
	if len(got) != len(m.messages) {
		rt.Fatalf("%d messages are queued, want %d", len(got), len(m.messages))
	}
	var size int64
	for _, e := range got {
		want := m.messages[e.ID]
		if want == nil {
			rt.Fatalf("a message is queued that should not be")
		}
		if diff := same(want, e); diff != "" {
			rt.Fatalf("envelope: %s", diff)
		}
		size += e.Size
	}
	if st := s.Stats(); st.Messages != len(m.messages) || st.Active != len(m.claims) || st.Bytes != size {
		rt.Fatalf("%+v, want %d messages, %d claims, %d octets", st, len(m.messages), len(m.claims), size)
	}
}
