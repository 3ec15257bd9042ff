package logging

import (
	"context"
	"time"
)

const (
	recallLines = 1 << 16          // records that are looked at
	recallSpan  = 10 * time.Minute // how far they may reach back from the last one
)

// Recall is what the end of the relay log tells of messages. After a crash it
// lets the queue and the log agree again: the crash may have come between
// what is on disk in one and what is on disk in the other.
type Recall struct {
	// Since is how far back it reaches: of a message that arrived later, the
	// record of acceptance is known if there is one.
	Since time.Time

	ids      map[string]bool // told of, other than by acceptance
	accepted map[recalled]bool
	told     map[recalled]bool
}

// recalled is one recipient of a message, and with an attempt that attempt; a
// terminal record has the attempt -1 as well.
type recalled struct {
	id, recipient string
	attempt       int
}

const anyEnd = -1

// RecallLast reads the end of the log of these options: at most the last ten
// minutes that it tells of, and 65,536 records. ctx bounds the reading.
func RecallLast(ctx context.Context, o Options) (*Recall, error) {
	past := &Recall{
		ids:      make(map[string]bool),
		accepted: make(map[recalled]bool),
		told:     make(map[recalled]bool),
	}
	var first, last time.Time
	lines := 0
	for line, err := range Read(ctx, ReadOptions{Dir: o.Dir, KeyDir: o.KeyDir, Last: recallLines}) {
		switch {
		case GoesOn(err):
			continue
		case err != nil:
			return nil, err
		case lines == 0:
			first = line.Time
		}
		lines++
		last = line.Time
		past.take(&line.Record)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if last.IsZero() {
		last = time.Now()
	}
	past.Since = last.Add(-recallSpan)
	if lines == recallLines && first.After(past.Since) {
		past.Since = first
	}
	return past, nil
}

func (p *Recall) take(r *Record) {
	to := recalled{id: r.ID, recipient: r.Recipient}
	switch {
	case r.Event == Accepted:
		p.accepted[to] = true
		return
	case !repeatEvents.has(r.Event):
		return
	case r.Event.Terminal():
		to.attempt = anyEnd
		p.told[to] = true
	}
	if to.attempt = r.Attempt; r.Attempt > 0 {
		p.told[to] = true
	}
	p.ids[r.ID] = true
}

// Accepted tells whether there is a record of acceptance. What a recipient is called
// is made visible first, as it is in the log.
func (p *Recall) Accepted(id, recipient string) bool {
	return p.accepted[recalled{id: id, recipient: visibleText(recipient, limitAddress)}]
}

// Keep forgets all but what may be told again, because the message is still queued.
func (p *Recall) Keep(queued func(id string) bool) {
	p.accepted = nil
	for id := range p.ids {
		p.ids[id] = queued(id)
	}
	for to := range p.told {
		if !p.ids[to.id] {
			delete(p.told, to)
		}
	}
	p.ids = nil
}

// Empty tells whether nothing can be told twice.
func (p *Recall) Empty() bool { return len(p.told) == 0 }

// Repeats tells whether the record was told before: one of the same attempt,
// or one that ended the recipient's delivery where this one does so too.
func (p *Recall) Repeats(r *Record) bool {
	to := recalled{id: r.ID, recipient: visibleText(r.Recipient, limitAddress), attempt: r.Attempt}
	if r.Attempt > 0 && p.told[to] {
		return true
	}
	to.attempt = anyEnd
	return r.Event.Terminal() && p.told[to]
}
