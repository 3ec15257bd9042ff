package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/queue/pebblestore"
)

// handleSelections answers what goes over much of the queue at once.
func (c *control) handleSelections(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/select", c.selectMessages)
	mux.HandleFunc("POST /v1/select/{token}", c.actOnSelection)
	mux.HandleFunc("GET /v1/shape", c.shape)
}

// picked is what a filter has selected.
type picked struct {
	Token    string `json:"token"`
	Messages int    `json:"messages"`
}

// verbs that act on what a filter selects.
func selectionVerb(name string) (logging.Verb, bool) {
	for _, verb := range []logging.Verb{logging.VerbQueueRetry, logging.VerbQueueHold, logging.VerbQueueRelease, logging.VerbQueueDelete} {
		if verb.String() == name {
			return verb, true
		}
	}
	return 0, false
}

// selectMessages counts what a filter selects, and puts on record that it is to be acted on.
func (c *control) selectMessages(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	verb, ok := selectionVerb(r.URL.Query().Get("verb"))
	if err == nil && !ok {
		err = errors.New("no such verb")
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	who := peerOf(r.Context())
	one, err := c.selections.add(r.Context(), who.uid, verb, filter)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	act := who.action(verb, filter.scopes()...)
	act.Matched = len(one.ids)
	if err := c.audit(act); err != nil {
		_, _ = c.selections.claim(one.token, who.uid)
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return
	}
	answer(w, picked{one.token, len(one.ids)})
}

// step is one line of an answer that takes its time: how far it is, and in
// the last line what came of it.
type step[T any] struct {
	Done   int `json:"done,omitempty"`
	Result *T  `json:"result,omitempty"`
	problem
}

// stepper writes the lines, a few each second.
type stepper struct {
	out   *json.Encoder
	flush *http.ResponseController
	last  time.Time
}

func newStepper(w http.ResponseWriter) *stepper {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &stepper{json.NewEncoder(w), http.NewResponseController(w), time.Now()}
}

const stepEvery = 300 * time.Millisecond

func (s *stepper) progress(done int) {
	if done%64 != 0 || time.Since(s.last) < stepEvery {
		return
	}
	s.last = time.Now()
	// A client that is gone ends the request's context.
	_ = s.out.Encode(step[struct{}]{Done: done})
	_ = s.flush.Flush()
}

func (c *control) actOnSelection(w http.ResponseWriter, r *http.Request) {
	one, err := c.selections.claim(r.PathValue("token"), peerOf(r.Context()).uid)
	if err != nil {
		fail(w, http.StatusNotFound, err)
		return
	}
	lines := newStepper(w)
	result := c.selections.act(r.Context(), one, lines.progress)
	last := step[acted]{Result: &result}
	if result.fault != nil {
		last.Error = result.fault.Error()
	}
	_ = lines.out.Encode(last)
}

// shape answers how old what is queued is.
func (c *control) shape(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	filter, err := parseFilter(q)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 0 {
		fail(w, http.StatusBadRequest, errors.New("limit: want a number"))
		return
	}
	if !c.record(w, r, logging.VerbQueueStats, "", filter.scopes()...) {
		return
	}
	lines := newStepper(w)
	full, err := c.selections.shapeOf(r.Context(), c.waits(), q.Get("by"), limit, filter, lines.progress)
	if err != nil {
		_ = lines.out.Encode(problem{Error: err.Error()})
		return
	}
	full.Damaged = c.queue.Stats().Damaged
	_ = lines.out.Encode(step[shape]{Result: &full})
}

// waits is what knows next hops without reading messages, nil if the queue has no such thing.
func (c *control) waits() func(context.Context) iter.Seq2[pebblestore.Waiting, error] {
	if store, ok := c.queue.(*pebblestore.Store); ok {
		return store.Waits
	}
	return nil
}

// listed is what a list shows: also what is damaged, of which no more is known
// than that it is there.
func (s *selections) listed(ctx context.Context, f listFilter, from queue.Admin) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		filter, err := f.filter()
		if err != nil {
			yield(nil, err)
			return
		}
		for e, err := range from.List(ctx, filter) {
			if e != nil && errors.Is(err, queue.ErrDamaged) {
				err = nil // the others are shown too
			}
			if err == nil && f.nextHop != "" && !f.atNextHop(e, s.destination) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}
