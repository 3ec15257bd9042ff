package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"tacet/logging"
)

// logRole is what somebody may see of the log through the daemon.
type logRole int

// The roles.
const (
	roleNone   logRole = iota
	roleStatus         // how a mail went, not whose it was
	roleFull
)

// roleOf is what the person may see. Root and the relay's own user may open
// the files and so see all. Where nobody is named, everyone may whom the
// control socket lets in.
func (l *LogConfig) roleOf(who person) logRole {
	switch {
	case who.uid == 0 || who.uid == os.Getuid():
		return roleFull
	case who.uid < 0:
		return roleNone
	case who.among(l.FullReaders):
		return roleFull
	case who.among(l.StatusReaders):
		return roleStatus
	case len(l.FullReaders)+len(l.StatusReaders) == 0:
		return roleFull
	}
	return roleNone
}

// among tells whether the person, or a group of theirs, is in a list of users and "@groups".
func (p person) among(names []string) bool {
	if p.name == "" {
		return false
	}
	var groups []string // of the person, as numbers
	return slices.ContainsFunc(names, func(name string) bool {
		group, isGroup := strings.CutPrefix(name, "@")
		if !isGroup {
			return name == p.name
		}
		if groups == nil {
			account, err := user.LookupId(strconv.Itoa(p.uid))
			if err != nil {
				return false
			}
			groups, _ = account.GroupIds()
		}
		g, err := user.LookupGroup(group)
		return err == nil && slices.Contains(groups, g.Gid)
	})
}

// onlyLog keeps those who may see the status of mail only, or nothing, from everything
// else that the control socket answers.
func onlyLog(role func(person) logRole, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/v1/log" || r.URL.Path == "/v1/health" || r.URL.Path == "/metrics"
		if !open && role(peerOf(r.Context())) != roleFull {
			fail(w, http.StatusForbidden, errors.New("this is not open to you: log.full_readers names those who may"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// logRead answers who may not open the log's files.
type logRead struct {
	config *Config
	audit  func(logging.Action) error
}

func (l *logRead) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who := peerOf(r.Context())
	role := l.config.Log.roleOf(who)
	query := r.URL.Query()
	q := logQuery{logFilter: logFilterOf(query), follow: query.Get("follow") == "true", trace: query.Get("trace") == "true"}
	q.last, _ = strconv.Atoi(query.Get("last"))
	o, err := q.options(l.config)
	switch {
	case role == roleNone:
		fail(w, http.StatusForbidden, errors.New("the log is not open to you: log.full_readers and log.status_readers name those who may read it"))
		return
	case role == roleStatus && q.about():
		fail(w, http.StatusForbidden, errors.New("you may see the status of mail only: search by id, event, reason, host and time"))
		return
	case err != nil:
		fail(w, http.StatusBadRequest, err)
		return
	}
	act := who.action(logging.VerbLogRead, q.scopes()...)
	lines := recorded(q.lines(r.Context(), o), q.reading(), func(found int, failed bool) error {
		if act.Matched, act.Failed = found, failed; l.audit(act) != nil {
			return errNotRecorded
		}
		return nil
	})
	switch err := l.stream(w, lines, q.follow, role); {
	case errors.Is(err, errNotRecorded):
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
	case err != nil:
		json.NewEncoder(w).Encode(problem{Error: err.Error()})
	}
}

// stream writes the lines, as much of each as the role shows.
func (l *logRead) stream(w http.ResponseWriter, lines iter.Seq2[logging.Line, error], follow bool, role logRole) error {
	out := http.NewResponseController(w)
	if err := errors.Join(out.SetReadDeadline(time.Time{}), out.SetWriteDeadline(time.Time{})); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	show := func(line logging.Line) logging.Line { return line }
	if role != roleFull {
		show = logging.StatusOnly()
	}
	for line, err := range lines {
		switch {
		case errors.Is(err, errNotRecorded):
			return err
		case logging.GoesOn(err):
			continue
		case err != nil:
			return fmt.Errorf("reading the relay log: %w", err)
		}
		if _, err := w.Write(append(show(line).Raw, '\n')); err != nil {
			return nil // the client is gone
		}
		if follow && out.Flush() != nil {
			return nil
		}
	}
	return nil
}

// readLog asks the daemon for what the query finds.
func (c *controlClient) readLog(ctx context.Context, q *logQuery) iter.Seq2[logging.Line, error] {
	return func(yield func(logging.Line, error) bool) {
		query := q.query()
		query.Set("last", strconv.Itoa(q.last))
		query.Set("follow", strconv.FormatBool(q.follow))
		query.Set("trace", strconv.FormatBool(q.trace))
		resp, err := c.do(ctx, http.MethodGet, "log?"+query.Encode())
		if err != nil {
			yield(logging.Line{}, err)
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			line, err := logging.ParseLine(append([]byte(nil), lines.Bytes()...))
			var p problem
			if err != nil && json.Unmarshal(lines.Bytes(), &p) == nil && p.Error != "" {
				err = p.err()
			}
			if !yield(line, err) {
				return
			}
		}
		if err := lines.Err(); err != nil && ctx.Err() == nil {
			yield(logging.Line{}, fmt.Errorf("reading the daemon's answer: %w", err))
		}
	}
}
