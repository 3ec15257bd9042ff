package reputation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind tells what a question was about.
type Kind uint8

// The kinds of questions.
const (
	Attachment Kind = iota // the digest of an attachment
	Link                   // the digest of a link
	Text                   // the digest of a text
	Client                 // a client's IP address
	Sender                 // the domain of a sender
	kinds
)

// Kinds are the names of the kinds, by their value.
func Kinds() [kinds]string {
	return [kinds]string{"attachment digest", "link digest", "text digest", "client address", "sender domain"}
}

func (k Kind) String() string { return Kinds()[k] }

// Counts is what became of questions.
type Counts struct {
	Asked  int64 `json:"asked"`  // sent
	Listed int64 `json:"listed"` // of these, those of which the service knew
	Failed int64 `json:"failed"` // of these, those without an answer
}

// Add adds more.
func (c *Counts) Add(more Counts) {
	c.Asked += more.Asked
	c.Listed += more.Listed
	c.Failed += more.Failed
}

// Line is one line of the ledger: a day's questions of one kind to one service.
type Line struct {
	Day     string `json:"day"` // UTC, 2006-01-02
	Service string `json:"service"`
	Kind    string `json:"kind"`
	Counts
}

// Keeper keeps the ledger over restarts.
type Keeper interface {
	// Load returns what Save was given last, or nothing.
	Load() ([]byte, error)
	// Save replaces what is kept, whole or not at all.
	Save([]byte) error
}

// How many days the ledger goes back, and how long a count may stand in memory alone.
const (
	keptDays  = 365
	saveAfter = time.Minute
)

// Ledger counts what was asked of whom, in numbers alone. A ledger that nothing is
// counted in costs nothing: it has no goroutine.
type Ledger struct {
	keeper Keeper
	failed func(error)
	totals [kinds]struct{ asked, listed, failed atomic.Int64 }

	mu      sync.Mutex
	lines   map[lineKey]*Counts
	pending *time.Timer // saves; nil: nothing is to be saved
	closed  bool
	saving  sync.Mutex // one save at a time
}

type lineKey struct {
	day, service string
	kind         Kind
}

// OpenLedger takes over what the keeper has. The ledger works even if there is an error:
// what cannot be read is not counted on. failed is told what went wrong later.
func OpenLedger(k Keeper, failed func(error)) (*Ledger, error) {
	l := &Ledger{keeper: k, failed: failed, lines: make(map[lineKey]*Counts)}
	lines, err := ReadLedger(k)
	for _, line := range lines {
		names := Kinds()
		if kind := slices.Index(names[:], line.Kind); kind >= 0 {
			l.lines[lineKey{line.Day, line.Service, Kind(kind)}] = new(line.Counts)
		}
	}
	return l, err
}

// ReadLedger reads what is kept of a ledger, the newest day first.
func ReadLedger(k Keeper) (lines []Line, err error) {
	text, err := k.Load()
	if err != nil || len(text) == 0 {
		return nil, err
	}
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, fmt.Errorf("reading the ledger of questions: %w", err)
	}
	return slices.DeleteFunc(lines, func(line Line) bool { return old(line.Day, time.Now()) }), nil
}

// old tells of a day that is not kept any more, or not yet: of a clock that was ahead.
func old(day string, now time.Time) bool {
	begin, err := time.Parse(time.DateOnly, day)
	return err != nil || now.Sub(begin) > keptDays*24*time.Hour || begin.After(now)
}

// count notes questions of one kind to one service.
func (l *Ledger) count(service string, kind Kind, c Counts) {
	l.totals[kind].asked.Add(c.Asked)
	l.totals[kind].listed.Add(c.Listed)
	l.totals[kind].failed.Add(c.Failed)
	now := time.Now().UTC()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	key := lineKey{now.Format(time.DateOnly), service, kind}
	if l.lines[key] == nil {
		maps.DeleteFunc(l.lines, func(k lineKey, _ *Counts) bool { return old(k.day, now) })
		l.lines[key] = &Counts{}
	}
	l.lines[key].Add(c)
	if l.pending == nil {
		l.pending = time.AfterFunc(saveAfter, func() {
			if err := l.save(); err != nil {
				l.failed(err)
			}
		})
	}
}

// Lines are all that is counted, the newest day first.
func (l *Ledger) Lines() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := make([]Line, 0, len(l.lines))
	for k, c := range l.lines {
		lines = append(lines, Line{k.day, k.service, k.kind.String(), *c})
	}
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Kind, b.Kind))
	})
	return lines
}

// Totals are the questions of a kind since the start.
func (l *Ledger) Totals(k Kind) Counts {
	t := &l.totals[k]
	return Counts{t.asked.Load(), t.listed.Load(), t.failed.Load()}
}

// save gives the ledger to the keeper.
func (l *Ledger) save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	l.pending = nil
	l.mu.Unlock()
	text, err := json.Marshal(l.Lines())
	if err == nil {
		err = l.keeper.Save(text)
	}
	if err != nil {
		return fmt.Errorf("keeping the ledger of questions: %w", err)
	}
	return nil
}

// Close saves what is not saved yet, and counts no more.
func (l *Ledger) Close() error {
	l.mu.Lock()
	pending := l.pending
	l.closed = true
	l.mu.Unlock()
	if pending == nil {
		return nil
	}
	pending.Stop()
	return l.save()
}
