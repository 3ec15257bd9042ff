package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay/quota"
	"tacet/relay/reputation"
)

// QueueActions is what an operator does to queued messages. The relay fills
// it, so that each leaves its record in the log.
type QueueActions interface {
	Hold(ctx context.Context, id queue.ID) error
	Release(ctx context.Context, id queue.ID) error
	Delete(ctx context.Context, id queue.ID) error
	Retry(ctx context.Context, id queue.ID) error
	RetryAll(ctx context.Context) (int, error)
}

// control answers the command line on a unix socket, in HTTP and JSON.
type control struct {
	queue       queue.Admin
	actions     QueueActions
	selections  *selections
	backups     *backups
	health      func() health
	reload      func(ctx context.Context) (restart []string, err error)
	reloadUsers func() error
	metrics     http.Handler
	audit       func(logging.Action) error
	logRead     *logRead
	erase       func(context.Context, logging.Person) (logging.Traces, error)
	incidents   *logging.Incidents
	config      func(io.Writer)          // that is in effect, as TOML
	usage       *quota.Meter             // nil: nobody may submit
	asked       func() []reputation.Line // of services outside, in numbers
	sendCanary  func(context.Context, url.Values) (id string, err error)
	openContent func(context.Context, queue.ID) (io.ReadCloser, error)
	log         *log.Logger // of the HTTP server
}

// health is the answer to whether the relay does its work.
type health struct {
	OK     bool     `json:"ok"`
	Faults []string `json:"faults"` // from a closed list
}

// listenControl opens the socket. The lock on the queue has been taken
// before: a socket that is there belongs to a daemon that is gone.
func listenControl(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	// The group may operate the relay; the umask has kept others out so far.
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	return l, nil
}

// server is the HTTP server of the control socket.
func (c *control) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/queue", c.list)
	mux.HandleFunc("GET /v1/queue/{id}", c.withID(c.show))
	mux.HandleFunc("POST /v1/queue/{id}/retry", c.withID(c.acting(logging.VerbQueueRetry, c.actions.Retry)))
	mux.HandleFunc("POST /v1/queue/{id}/hold", c.withID(c.acting(logging.VerbQueueHold, c.actions.Hold)))
	mux.HandleFunc("POST /v1/queue/{id}/release", c.withID(c.acting(logging.VerbQueueRelease, c.actions.Release)))
	mux.HandleFunc("DELETE /v1/queue/{id}", c.withID(c.acting(logging.VerbQueueDelete, c.actions.Delete)))
	mux.HandleFunc("POST /v1/retry", c.retryAll)
	mux.HandleFunc("GET /v1/stats", c.stats)
	mux.HandleFunc("GET /v1/health", c.answerHealth)
	mux.HandleFunc("GET /health", c.answerHealth) // as at metrics.address
	mux.HandleFunc("POST /v1/reload", c.answerReload)
	mux.HandleFunc("POST /v1/reload-users", c.answerReloadUsers)
	mux.HandleFunc("GET /v1/usage", c.answerUsage)
	mux.HandleFunc("POST /v1/audit", c.answerAudit)
	mux.Handle("GET /metrics", c.metrics)
	mux.Handle("GET /v1/log", c.logRead)
	mux.HandleFunc("POST /v1/erase", c.answerErase)
	c.handleIncidents(mux)
	c.handleSelections(mux)
	c.handleBackup(mux)
	return &http.Server{
		Handler:           onlyLog(c.logRead.config.Log.roleOf, mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withPeer,
		ErrorLog:          c.log,
	}
}

// problem is an error as the control socket carries it.
type problem struct {
	Error string `json:"error"`
	Kind  string `json:"kind,omitempty"` // not_found, busy: what errors.Is finds on the other side
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, err error) {
	p := problem{Error: err.Error()}
	switch {
	case errors.Is(err, queue.ErrNotFound):
		status, p.Kind = http.StatusNotFound, "not_found"
	case errors.Is(err, queue.ErrBusy):
		status, p.Kind = http.StatusConflict, "busy"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(p)
}

func (c *control) list(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if !c.record(w, r, logging.VerbQueueList, "", filter.scopes()...) {
		return
	}
	stream(w, c.selections.listed(r.Context(), filter, c.queue), func(e *queue.Envelope) any { return describe(e) })
}

// stream answers with one line of JSON for each value, as far as they come and the client
// is there.
func stream[T any](w http.ResponseWriter, values iter.Seq2[T, error], show func(T) any) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	for v, err := range values {
		if err != nil {
			_ = out.Encode(problem{Error: err.Error()})
			return
		}
		if out.Encode(show(v)) != nil {
			return
		}
	}
}

// The query of a list, and the Filter that it stands for.
func (f listFilter) query() url.Values {
	q := url.Values{}
	for key, value := range map[string]string{"sender": f.sender, "domain": f.domain, "state": f.state, "next_hop": f.nextHop} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.older > 0 {
		q.Set("older", f.older.String())
	}
	return q
}

func parseFilter(q url.Values) (listFilter, error) {
	f := listFilter{sender: q.Get("sender"), domain: q.Get("domain"), state: q.Get("state"), nextHop: q.Get("next_hop")}
	if text := q.Get("older"); text != "" {
		older, err := time.ParseDuration(text)
		if err != nil {
			return f, errors.New("older: want a duration")
		}
		f.older = older
	}
	_, err := f.filter()
	return f, err
}

func (c *control) withID(do func(http.ResponseWriter, *http.Request, queue.ID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := queue.ParseID(r.PathValue("id"))
		if err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		do(w, r, id)
	}
}

func (c *control) show(w http.ResponseWriter, r *http.Request, id queue.ID) {
	if !c.record(w, r, logging.VerbQueueShow, id.String(), logging.ScopeID) {
		return
	}
	e, err := c.queue.Get(r.Context(), id)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, describe(e))
}

// record puts on record what the person behind r is about to do. It returns
// false, and has answered, if that is not possible.
func (c *control) record(w http.ResponseWriter, r *http.Request, verb logging.Verb, id string, scope ...logging.Scope) bool {
	act := peerOf(r.Context()).action(verb, scope...)
	if act.ID = id; id != "" {
		act.Matched = 1
	}
	if err := c.audit(act); err != nil {
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return false
	}
	return true
}

// acting answers a request that changes one message.
func (c *control) acting(verb logging.Verb, act func(context.Context, queue.ID) error) func(http.ResponseWriter, *http.Request, queue.ID) {
	return func(w http.ResponseWriter, r *http.Request, id queue.ID) {
		if !c.record(w, r, verb, id.String(), logging.ScopeID) {
			return
		}
		if err := act(r.Context(), id); err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		answer(w, map[string]string{"id": id.String()})
	}
}

func (c *control) retryAll(w http.ResponseWriter, r *http.Request) {
	if !c.record(w, r, logging.VerbQueueRetry, "", logging.ScopeAll) {
		return
	}
	n, err := c.actions.RetryAll(r.Context())
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, map[string]int{"messages": n})
}

// scopes is by what a list was narrowed.
func (f listFilter) scopes() []logging.Scope {
	var by []logging.Scope
	for _, one := range []struct {
		given bool
		scope logging.Scope
	}{
		{f.sender != "", logging.ScopeSender}, {f.domain != "", logging.ScopeDomain}, {f.nextHop != "", logging.ScopeNextHost},
		{f.older > 0, logging.ScopeTime},
	} {
		if one.given {
			by = append(by, one.scope)
		}
	}
	if len(by) == 0 {
		by = append(by, logging.ScopeAll)
	}
	return by
}

// answerAudit records what a command does to files: it asks before it does it.
func (c *control) answerAudit(w http.ResponseWriter, r *http.Request) {
	act, ok := parseAction(r.URL.Query())
	if !ok {
		fail(w, http.StatusBadRequest, errors.New("no such verb"))
		return
	}
	who := peerOf(r.Context())
	act.UID, act.User = who.uid, who.name
	if err := c.audit(act); err != nil {
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return
	}
	answer(w, struct{}{})
}

// stats counts what is queued. While loading, what was queued at the start is
// not yet counted whole.
func (c *control) stats(w http.ResponseWriter, _ *http.Request) {
	answer(w, struct {
		queue.Stats
		Loading bool `json:"loading"`
	}{c.queue.Stats(), c.loading()})
}

// loading tells whether what was queued at the start is still being read.
func (c *control) loading() bool {
	store, ok := c.queue.(interface{ Loaded() <-chan struct{} })
	if !ok {
		return false
	}
	select {
	case <-store.Loaded():
		return false
	default:
		return true
	}
}

func (c *control) answerHealth(w http.ResponseWriter, _ *http.Request) {
	h := c.health()
	w.Header().Set("Content-Type", "application/json")
	if !h.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(h)
}

func (c *control) answerReload(w http.ResponseWriter, r *http.Request) {
	if !c.record(w, r, logging.VerbReload, "") {
		return
	}
	restart, err := c.reload(r.Context())
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, map[string][]string{"restart": restart})
}

func (c *control) answerReloadUsers(w http.ResponseWriter, r *http.Request) {
	if err := c.reloadUsers(); err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, struct{}{})
}

// listFilter is what `tacet queue list` was asked for.
type listFilter struct {
	sender, domain, state, nextHop string
	older                          time.Duration
}

func (f listFilter) filter() (queue.Filter, error) {
	filter := queue.Filter{Sender: f.sender, Domain: queue.Domain(strings.ToLower(f.domain)), Older: f.older}
	switch f.state {
	case "":
	case "waiting":
		filter.State = new(queue.Waiting)
	case "held":
		filter.State = new(queue.Held)
	default:
		return filter, wrongUsage("--state is waiting or held, not %s", quote(f.state))
	}
	return filter, nil
}
