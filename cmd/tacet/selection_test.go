package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// crowd is a queue of many, and what is done to them.
type crowd struct {
	queue []*queue.Envelope

	mu   sync.Mutex
	done map[queue.ID]string
	fail map[queue.ID]error
}

func newCrowd(n int) *crowd {
	c := &crowd{done: make(map[queue.ID]string), fail: make(map[queue.ID]error)}
	for i := range n {
		at := time.Now().Add(-time.Duration(n-i) * time.Minute)
		c.queue = append(c.queue, &queue.Envelope{ID: queue.NewID(at), Arrived: at, Sender: "anna@example.org",
			Recipients: []queue.Recipient{{Path: queue.ForwardPath(fmt.Sprintf("x@d%d.example", i%10))}}})
	}
	return c
}

func (c *crowd) survey(_ context.Context, f queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		for _, e := range c.queue {
			if f.Domain != "" && f.Domain != e.Recipients[0].Path.Domain() {
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *crowd) act(what string, id queue.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[id] = what
	return c.fail[id]
}

func (c *crowd) Hold(_ context.Context, id queue.ID) error    { return c.act("hold", id) }
func (c *crowd) Release(_ context.Context, id queue.ID) error { return c.act("release", id) }
func (c *crowd) Delete(_ context.Context, id queue.ID) error  { return c.act("delete", id) }
func (c *crowd) Retry(_ context.Context, id queue.ID) error   { return c.act("retry", id) }
func (c *crowd) RetryAll(context.Context) (int, error)        { return len(c.queue), nil }

func (c *crowd) selections() *selections {
	return &selections{survey: c.survey, actions: c, destination: func(to queue.ForwardPath) queue.Destination {
		return queue.Destination("mx." + to.Domain())
	}}
}

// What is acted on is what was counted, and none that came meanwhile.
func TestSelectionActsOnWhatWasCounted(t *testing.T) {
	c := newCrowd(200)
	s := c.selections()
	one, err := s.add(t.Context(), 7, logging.VerbQueueHold, listFilter{nextHop: "MX.d3.example"})
	if err != nil || len(one.ids) != 20 {
		t.Fatal(len(one.ids), err)
	}
	c.queue = append(c.queue, newCrowd(10).queue...)
	c.fail[one.ids[1]], c.fail[one.ids[2]] = fmt.Errorf("hold: %w", queue.ErrNotFound), queue.ErrBusy
	c.fail[one.ids[3]] = errors.New("the disk is gone")
	if _, err := s.claim(one.token, 8); err == nil {
		t.Error("another person acts on it")
	}
	again, err := s.claim(one.token, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.claim(one.token, 7); err == nil {
		t.Error("it can be acted on twice")
	}
	last := 0
	got := s.act(t.Context(), again, func(n int) { last = n })
	if fault := got.fault; fault == nil || fault.Error() != "the disk is gone" {
		t.Error(fault)
	}
	got.fault = nil
	if want := (acted{Matched: 20, Changed: 17, Gone: 1, Busy: 1, Failed: 1}); got != want || last != 20 {
		t.Errorf("%+v after %d, want %+v", got, last, want)
	}
	for id, what := range c.done {
		if what != "hold" || !slices.Contains(one.ids, id) {
			t.Errorf("%s was done to %s", what, id)
		}
	}
}

// What nobody acts on is given up, and few are kept at a time.
func TestSelectionsAreForgotten(t *testing.T) {
	s := newCrowd(3).selections()
	var tokens []string
	for range maxSelections + 1 {
		one, err := s.add(t.Context(), 7, logging.VerbQueueRetry, listFilter{})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, one.token)
	}
	if len(s.open) != maxSelections {
		t.Errorf("%d are kept", len(s.open))
	}
	if _, err := s.claim(tokens[0], 7); !errors.Is(err, errNoSelection) {
		t.Error(err)
	}
	s.open[0].until = time.Now()
	if _, err := s.claim(tokens[1], 7); !errors.Is(err, errNoSelection) {
		t.Error(err)
	}
	if _, err := s.claim(tokens[2], 7); err != nil {
		t.Error(err)
	}
}

// Who goes away acts on no more.
func TestSelectionEndsWithItsClient(t *testing.T) {
	c := newCrowd(1000)
	s := c.selections()
	one, err := s.add(t.Context(), 7, logging.VerbQueueDelete, listFilter{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := s.act(ctx, one, func(n int) {
		if n == 10 {
			cancel()
		}
	})
	if got.Changed > 10+2*actAtOnce || got.Changed+got.Failed != 1000 || !errors.Is(got.fault, context.Canceled) {
		t.Errorf("%+v", got)
	}
}

func TestShape(t *testing.T) {
	c := &crowd{}
	add := func(age time.Duration, from queue.ReversePath, to ...queue.Recipient) {
		at := time.Now().Add(-age)
		c.queue = append(c.queue, &queue.Envelope{ID: queue.NewID(at), Arrived: at, Sender: from, Recipients: to})
	}
	to := func(path queue.ForwardPath, state queue.State) queue.Recipient {
		return queue.Recipient{Path: path, State: state}
	}
	add(time.Minute, "", to("a@one.example", queue.Waiting))
	add(6*time.Minute, "anna@example.org", to("a@one.example", queue.Waiting), to("b@ONE.example", queue.Held), to("c@two.example", queue.Waiting))
	add(25*time.Hour, "anna@example.org", to("a@one.example", queue.Delivered), to("b@two.example", queue.Held))
	s := c.selections()
	s.destination = func(to queue.ForwardPath) queue.Destination {
		return queue.Destination(strings.ToLower(string(to.Domain())))
	}
	of := func(by string, f listFilter) string {
		full, err := s.shapeOf(t.Context(), nil, by, 0, f, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.WriteString(fmt.Sprint(full.Total.Total, full.Total.Held))
		for _, r := range full.Rows {
			b.WriteString(fmt.Sprint("|", r.Name, r.Total, r.Held, r.Ages))
		}
		return b.String()
	}
	for _, one := range []struct {
		by   string
		f    listFilter
		want string
	}{
		{byNextHop, listFilter{}, "4 1|one.example2 0 [1 1 0 0 0 0 0 0 0 0]|two.example2 1 [0 1 0 0 0 0 0 0 0 1]"},
		{byDomain, listFilter{nextHop: "two.example"}, "2 1|two.example2 1 [0 1 0 0 0 0 0 0 0 1]"},
		{bySender, listFilter{}, "3 2|anna@example.org2 2 [0 1 0 0 0 0 0 0 0 1]|<>1 0 [1 0 0 0 0 0 0 0 0 0]"},
		{byNextHop, listFilter{state: "held"}, "2 2|one.example1 1 [0 1 0 0 0 0 0 0 0 0]|two.example1 1 [0 0 0 0 0 0 0 0 0 1]"},
	} {
		if got := of(one.by, one.f); got != one.want {
			t.Errorf("by %s %+v:\n%s, want\n%s", one.by, one.f, got, one.want)
		}
	}
	if _, err := newShaper("colour"); err == nil {
		t.Error("a shape by colour")
	}
}

// The rows are bounded, and what has none is counted all the same.
func TestShapeIsBounded(t *testing.T) {
	s, err := newShaper(bySender)
	if err != nil {
		t.Fatal(err)
	}
	id := queue.NewID(time.Now())
	for i := range maxShapeRows + 10 {
		s.add(fmt.Sprint(i), id, false)
	}
	full := s.shape(2)
	if full.Total.Total != maxShapeRows+10 || full.Rows[0].Name != furtherRows || full.Rows[0].Total != 10 || full.Others != maxShapeRows-1 {
		t.Errorf("%d in all, first %+v, %d others", full.Total.Total, full.Rows[0], full.Others)
	}
}

func TestShapeTable(t *testing.T) {
	full := shape{By: byNextHop, Buckets: ageLabels(), Others: 3, Damaged: 1,
		Total: shapeRow{Name: "TOTAL", Total: 1_234_567, Ages: [len(ageSet)]int{1_200_000, 0, 34_567}},
		Rows: []shapeRow{
			{Name: "big.example", Total: 1_200_000, Ages: [len(ageSet)]int{1_200_000}},
			{Name: "a-name-that-is-far-too-long-for-a-line-of-a-table.example", Total: 4_567, Ages: [len(ageSet)]int{0, 0, 4_567}},
			{Name: "\x1b[31mred.example", Total: 1, Ages: [len(ageSet)]int{0, 0, 1}},
		}}
	for _, width := range []int{0, 80, 200} {
		var b bytes.Buffer
		if err := full.print(&b, width, palette{}); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		lines := strings.Split(text, "\n")
		if strings.Contains(text, "\x1b") || !strings.Contains(text, "1,234,567") || !strings.Contains(text, "…") ||
			lines[5] != "and 3 lines more: --limit 0 shows them" || lines[6] != "1 message set aside as damaged" {
			t.Errorf("at %d columns:\n%s", width, text)
		}
		if bars := strings.Contains(text, "█"); bars != (width != 80) {
			t.Errorf("at %d columns, bars: %v", width, bars)
		}
		for _, line := range lines[1:5] {
			if n := visibleWidth(line); width == 200 && n > width {
				t.Errorf("a line of %d columns", n)
			}
		}
	}
	var b bytes.Buffer
	if err := (shape{}).print(&b, 80, palette{}); err != nil || b.String() != "Nothing waits.\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// spoiled is a queue in which a message is damaged.
type spoiled struct {
	queue.Admin
	crowd *crowd
}

func (s spoiled) List(context.Context, queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		for i, e := range s.crowd.queue {
			var err error
			if i == 1 {
				e, err = &queue.Envelope{ID: e.ID, Arrived: e.Arrived}, fmt.Errorf("get: %w", queue.ErrDamaged)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// One message that is damaged does not hide those after it.
func TestListShowsWhatIsDamaged(t *testing.T) {
	c := newCrowd(3)
	var states []string
	for e, err := range c.selections().listed(t.Context(), listFilter{}, spoiled{crowd: c}) {
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, row(describe(e), time.Now())[5])
	}
	if want := []string{"waiting", "damaged", "waiting"}; !slices.Equal(states, want) {
		t.Errorf("%q, want %q", states, want)
	}
}
