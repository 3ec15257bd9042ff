package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"tacet/queue"
	"tacet/queue/pebblestore"
)

// shape is how old what is queued is, by next hop, recipient domain or sender.
type shape struct {
	By      string     `json:"by"`
	Buckets []string   `json:"buckets"` // up to which age; the last without end
	Total   shapeRow   `json:"total"`
	Rows    []shapeRow `json:"rows"`    // the fullest first
	Others  int        `json:"others"`  // rows beyond those
	Damaged int        `json:"damaged"` // messages that are set aside
}

// shapeRow counts messages: one for several next hops counts in each row, and
// once in the total by sender.
type shapeRow struct {
	Name  string           `json:"name"`
	Total int              `json:"total"`
	Held  int              `json:"held"`
	Ages  [len(ageSet)]int `json:"ages"`
}

// ageSet bounds the ages of each column, in minutes; what is older falls into the last.
var ageSet = [...]time.Duration{
	5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour,
	2 * time.Hour, 4 * time.Hour, 12 * time.Hour, day, 1<<63 - 1,
}

func ageLabels() []string {
	labels := make([]string, len(ageSet))
	for i, age := range ageSet[:len(ageSet)-1] {
		labels[i] = formatDuration(age)
	}
	labels[len(ageSet)-1] = labels[len(ageSet)-2] + "+"
	return labels
}

// What a shape may be by.
const (
	byNextHop = "next-hop"
	byDomain  = "domain"
	bySender  = "sender"
)

// maxShapeRows bounds the memory of a shape. What has no row any more counts as one.
const (
	maxShapeRows = 100_000
	furtherRows  = "(others)"
)

// shaper gathers a shape.
type shaper struct {
	by    string
	now   time.Time
	rows  map[string]*shapeRow
	total shapeRow
	read  int
}

func newShaper(by string) (*shaper, error) {
	switch by {
	case byNextHop, byDomain, bySender:
		return &shaper{by: by, now: time.Now(), rows: make(map[string]*shapeRow), total: shapeRow{Name: "TOTAL"}}, nil
	}
	return nil, wrongUsage("--by is %s, %s or %s, not %s", byNextHop, byDomain, bySender, quote(by))
}

func (s *shaper) add(name string, id queue.ID, held bool) {
	row := s.rows[name]
	if row == nil {
		if len(s.rows) >= maxShapeRows {
			name = furtherRows
		}
		if row = s.rows[name]; row == nil {
			row = &shapeRow{Name: strings.Clone(name)}
			s.rows[row.Name] = row
		}
	}
	age := s.now.Sub(id.Time())
	column, _ := slices.BinarySearch(ageSet[:len(ageSet)-1], age)
	for _, r := range []*shapeRow{row, &s.total} {
		r.Total++
		r.Ages[column]++
		if held {
			r.Held++
		}
	}
}

// envelope adds a message to the rows of the recipients that are owed it and
// that the filter asks for.
func (s *shaper) envelope(e *queue.Envelope, f listFilter, destination func(queue.ForwardPath) queue.Destination) {
	if s.by == bySender {
		held := slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool { return r.State == queue.Held })
		s.add(cmp.Or(string(e.Sender), "<>"), e.ID, held)
		return
	}
	var seen []string // most messages have one recipient, or few
	for _, r := range e.Recipients {
		if r.State.Settled() || f.state != "" && f.state != r.State.String() ||
			f.domain != "" && !strings.EqualFold(f.domain, string(r.Path.Domain())) {
			continue
		}
		at := destination(r.Path)
		if f.nextHop != "" && !strings.EqualFold(f.nextHop, string(at)) {
			continue
		}
		name := string(at)
		if s.by == byDomain {
			name = cmp.Or(strings.ToLower(string(r.Path.Domain())), "(postmaster)")
		}
		if len(seen) < 100 && slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		s.add(name, e.ID, r.State == queue.Held)
	}
}

// shape is what was gathered, with the fullest rows, limit of them; 0: all.
func (s *shaper) shape(limit int) shape {
	rows := make([]shapeRow, 0, len(s.rows))
	for _, r := range s.rows {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b shapeRow) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	full := shape{By: s.by, Buckets: ageLabels(), Total: s.total, Rows: rows}
	if limit > 0 && len(rows) > limit {
		full.Rows, full.Others = rows[:limit], len(rows)-limit
	}
	return full
}

// shapeOf goes over the queue. waits, where there is one, knows next hops without reading messages.
func (s *selections) shapeOf(ctx context.Context, waits func(context.Context) iter.Seq2[pebblestore.Waiting, error], by string, limit int, f listFilter, progress func(int)) (shape, error) {
	gather, err := newShaper(by)
	if err != nil {
		return shape{}, err
	}
	if waits != nil && by == byNextHop && (f == listFilter{nextHop: f.nextHop, older: f.older}) {
		for w, err := range waits(ctx) {
			if err != nil {
				return shape{}, fmt.Errorf("counting the queue: %w", err)
			}
			if f.nextHop != "" && !strings.EqualFold(f.nextHop, string(w.Destination)) || gather.now.Sub(w.ID.Time()) < f.older {
				continue
			}
			gather.add(string(w.Destination), w.ID, w.Held)
		}
		return gather.shape(limit), nil
	}
	for e, err := range s.take(ctx, f) {
		if err != nil {
			return shape{}, fmt.Errorf("counting the queue: %w", err)
		}
		gather.envelope(e, f, s.destination)
		gather.read++
		progress(gather.read)
	}
	return gather.shape(limit), nil
}
