package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// selections are what operators are about to act on: first a filter selects
// messages and they are counted, then the person says yes, and what is acted
// on are those messages and none that came meanwhile.
type selections struct {
	survey      func(context.Context, queue.Filter) iter.Seq2[*queue.Envelope, error]
	destination func(queue.ForwardPath) queue.Destination
	actions     QueueActions

	mu   sync.Mutex
	open []*selection // the oldest first
}

// selection is one of them.
type selection struct {
	token string
	uid   int
	verb  logging.Verb
	ids   []queue.ID
	until time.Time
}

const (
	maxSelections = 4 // of a million messages each takes 10 MB
	selectionLife = 10 * time.Minute
	actAtOnce     = 64 // so many share one sync of the disk
)

var errNoSelection = errors.New("what was selected is forgotten again after ten minutes or a restart: select it anew")

// take goes over the messages that the filter selects.
func (s *selections) take(ctx context.Context, f listFilter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		filter, err := f.filter()
		if err != nil {
			yield(nil, err)
			return
		}
		for e, err := range s.survey(ctx, filter) {
			if err == nil && !f.atNextHop(e, s.destination) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// atNextHop tells whether a recipient that is owed the message waits for the
// filter's next hop.
func (f listFilter) atNextHop(e *queue.Envelope, destination func(queue.ForwardPath) queue.Destination) bool {
	return f.nextHop == "" || slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool {
		return !r.State.Settled() && strings.EqualFold(string(destination(r.Path)), f.nextHop)
	})
}

// add selects messages. What is selected stays until it is acted on, for ten minutes.
func (s *selections) add(ctx context.Context, uid int, verb logging.Verb, f listFilter) (*selection, error) {
	one := &selection{token: rand.Text(), uid: uid, verb: verb}
	for e, err := range s.take(ctx, f) {
		if err != nil {
			return nil, err
		}
		one.ids = append(one.ids, e.ID)
	}
	one.until = time.Now().Add(selectionLife)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.expire(), one)
	return one, nil
}

// expire gives up what was not acted on, and the oldest where there are many.
func (s *selections) expire() []*selection {
	now := time.Now()
	left := slices.DeleteFunc(s.open, func(one *selection) bool { return now.After(one.until) })
	if over := len(left) - maxSelections + 1; over > 0 {
		left = slices.Delete(left, 0, over)
	}
	return left
}

// claim gives a selection out to the person who made it, once.
func (s *selections) claim(token string, uid int) (*selection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, one := range s.open {
		if one.token == token && one.uid == uid && time.Now().Before(one.until) {
			s.open = slices.Delete(s.open, i, i+1)
			return one, nil
		}
	}
	return nil, errNoSelection
}

// acted is what became of a selection.
type acted struct {
	Matched int `json:"matched"`
	Changed int `json:"changed"`
	Gone    int `json:"gone"` // settled since they were selected
	Busy    int `json:"busy"` // under delivery, and so not deleted
	Failed  int `json:"failed"`

	fault error // of the first that failed
}

// act does to the messages what they were selected for, many at a time, and
// goes on after one that fails.
func (s *selections) act(ctx context.Context, one *selection, progress func(done int)) acted {
	do := s.actions.Retry
	switch one.verb {
	case logging.VerbQueueHold:
		do = s.actions.Hold
	case logging.VerbQueueRelease:
		do = s.actions.Release
	case logging.VerbQueueDelete:
		do = s.actions.Delete
	}
	result := acted{Matched: len(one.ids)}
	work, outcomes := make(chan queue.ID), make(chan error)
	var workers sync.WaitGroup
	for range min(actAtOnce, len(one.ids)) {
		workers.Go(func() {
			for id := range work {
				outcomes <- do(ctx, id)
			}
		})
	}
	go func() {
		defer func() { close(work); workers.Wait(); close(outcomes) }()
		for _, id := range one.ids {
			select {
			case work <- id:
			case <-ctx.Done():
				return
			}
		}
	}()
	done := 0
	for err := range outcomes {
		result.count(err)
		done++
		progress(done)
	}
	if left := result.Matched - done; left > 0 {
		result.Failed += left
		result.fault = cmp.Or(result.fault, ctx.Err())
	}
	return result
}

func (a *acted) count(err error) {
	switch {
	case err == nil:
		a.Changed++
	case errors.Is(err, queue.ErrNotFound):
		a.Gone++
	case errors.Is(err, queue.ErrBusy):
		a.Busy++
	default:
		a.Failed++
		a.fault = cmp.Or(a.fault, err)
	}
}
