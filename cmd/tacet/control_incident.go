package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// The part of the control socket that answers `tacet incident` and
// `tacet queue show --content`.

func (c *control) handleIncidents(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/config", c.answerConfig)
	mux.HandleFunc("GET /v1/asked", c.answerAsked)
	mux.HandleFunc("POST /v1/privacy/export", c.answerExport)
	mux.HandleFunc("POST /v1/privacy/selftest", c.answerSelftest)
	mux.HandleFunc("GET /v1/incidents", c.listIncidents)
	mux.HandleFunc("POST /v1/incidents", c.openIncident)
	mux.HandleFunc("GET /v1/incidents/open", c.openIncidents)
	mux.HandleFunc("DELETE /v1/incidents/{id}", c.closeIncident)
	mux.HandleFunc("GET /v1/incidents/{id}/dialogue", c.showIncident)
	mux.HandleFunc("GET /v1/queue/{id}/content", c.withID(c.showContent))
}

// recordAction puts on record what is about to be done, by a person whom the
// kernel vouches for. It returns false, and has answered, if that is not possible.
func (c *control) recordAction(w http.ResponseWriter, act logging.Action) bool {
	if act.UID < 0 {
		fail(w, http.StatusForbidden, errors.New("the system does not say who asks"))
		return false
	}
	if err := c.audit(act); err != nil {
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return false
	}
	return true
}

func (c *control) openIncident(w http.ResponseWriter, r *http.Request) {
	who := peerOf(r.Context())
	q := r.URL.Query()
	request := logging.IncidentRequest{Ticket: q.Get("ticket"), WithContent: q.Get("content") == "yes", By: who.String()}
	var err error
	if request.Target, err = logging.ParseTarget(q["scope"]); err == nil && q.Get("for") != "" {
		request.For, err = time.ParseDuration(q.Get("for"))
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	act := who.action(logging.VerbIncidentOpen, request.Target.Scopes()...)
	act.Ticket = request.Ticket
	if !c.recordAction(w, act) {
		return
	}
	incident, err := c.incidents.Open(request)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, incident)
}

func (c *control) listIncidents(w http.ResponseWriter, r *http.Request) {
	if c.recordAction(w, peerOf(r.Context()).action(logging.VerbIncidentList, logging.ScopeAll)) {
		answer(w, c.incidents.List())
	}
}

// openIncident is what everyone who reads the log is told of an incident.
type incidentNotice struct {
	ID       string    `json:"id"`
	Ticket   string    `json:"ticket"`
	By       string    `json:"by"`
	Deadline time.Time `json:"deadline"`
}

// openIncidents tells that incidents are open, without their scope.
func (c *control) openIncidents(w http.ResponseWriter, _ *http.Request) {
	open := []incidentNotice{}
	for _, in := range c.incidents.List() {
		open = append(open, incidentNotice{in.ID, in.Ticket, in.By, in.Deadline})
	}
	answer(w, open)
}

// anIncident finds the incident of a request and puts on record what is done with it.
func (c *control) anIncident(w http.ResponseWriter, r *http.Request, verb logging.Verb) (logging.Incident, bool) {
	incident, err := c.incidents.Get(r.PathValue("id"))
	act := peerOf(r.Context()).action(verb, logging.ScopeID)
	act.ID, act.Ticket, act.Failed = r.PathValue("id"), incident.Ticket, err != nil
	if err == nil {
		act.Matched = 1
	}
	if !c.recordAction(w, act) {
		return incident, false
	}
	if err != nil {
		fail(w, http.StatusNotFound, err)
	}
	return incident, err == nil
}

func (c *control) closeIncident(w http.ResponseWriter, r *http.Request) {
	incident, ok := c.anIncident(w, r, logging.VerbIncidentClose)
	if !ok {
		return
	}
	was, err := c.incidents.Close(incident.ID)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, was)
}

func (c *control) showIncident(w http.ResponseWriter, r *http.Request) {
	verb := logging.VerbIncidentShow
	if r.URL.Query().Get("export") == "yes" {
		verb = logging.VerbIncidentExport
	}
	incident, ok := c.anIncident(w, r, verb)
	if !ok {
		return
	}
	stream(w, c.incidents.Show(incident.ID), func(e logging.Exchange) any { return e })
}

// errNoContent is what is told who asks for content without an occasion.
var errNoContent = errors.New("content is shown only while an incident is open on this very message: tacet incident open --ticket T --scope id=ID --with-content")

func (c *control) showContent(w http.ResponseWriter, r *http.Request, id queue.ID) {
	incident, ok := c.incidents.Content(id.String())
	act := peerOf(r.Context()).action(logging.VerbQueueContent, logging.ScopeID)
	act.ID, act.Ticket, act.Failed = id.String(), incident.Ticket, !ok
	if ok {
		act.Matched = 1
	}
	if !c.recordAction(w, act) {
		return
	}
	if !ok {
		fail(w, http.StatusForbidden, errNoContent)
		return
	}
	in, err := c.openContent(r.Context(), id)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	defer in.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, in); err != nil {
		panic(http.ErrAbortHandler) // so that a part is not taken for the whole
	}
}

// openContent reads the content of a queued message.
func (d *daemon) openContent(ctx context.Context, id queue.ID) (io.ReadCloser, error) {
	content, err := d.store.Content(ctx, id)
	if err != nil {
		return nil, err
	}
	return content.Reader()
}

// openIncidents destroys what incidents of an earlier process have left. It comes before
// the listeners, so that nothing of them is there when a connection is taken.
func (d *daemon) openIncidents(context.Context) error {
	all, err := logging.OpenIncidents(logging.IncidentOptions{
		Dir: d.config.incidentDir(), Operations: d.ops, Ended: d.incidentEnded,
	})
	if err != nil {
		return err
	}
	d.incidents = all
	d.made(all.CloseAll)
	return nil
}

// incidentEnded puts on record that an incident ended without a person's doing.
func (d *daemon) incidentEnded(was logging.Incident) {
	// What cannot be recorded is done all the same: it is the deletion. The operator is told.
	_ = d.audit(logging.Action{UID: ownUID(), What: logging.VerbIncidentClose, Scope: []logging.Scope{logging.ScopeTime},
		ID: was.ID, Ticket: was.Ticket, Matched: was.Lines, Changed: was.Lines})
}
