package main

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/logging"
)

func TestLogRole(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		full, status []string
		who          person
		want         logRole
	}{
		{"nobody is named", nil, nil, person{70001, "anna"}, roleFull},
		{"unknown peer", nil, nil, person{-1, ""}, roleNone},
		{"root", []string{"anna"}, nil, person{0, "root"}, roleFull},
		{"the relay's own user", []string{"anna"}, nil, person{os.Getuid(), "x"}, roleFull},
		{"full", []string{"anna"}, []string{"bob"}, person{70001, "anna"}, roleFull},
		{"status", []string{"anna"}, []string{"bob"}, person{70002, "bob"}, roleStatus},
		{"in both lists", []string{"bob"}, []string{"bob"}, person{70002, "bob"}, roleFull},
		{"in no list", []string{"anna"}, nil, person{70002, "bob"}, roleNone},
		{"without a name", nil, []string{"bob"}, person{70003, ""}, roleNone},
		{"a group that is not there", nil, []string{"@no-such-group"}, person{70002, "bob"}, roleNone},
	} {
		l := LogConfig{FullReaders: c.full, StatusReaders: c.status}
		if got := l.roleOf(c.who); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if who := personOf(os.Getuid()); !who.among([]string{"@" + group.Name}) || who.among([]string{group.Name + "x"}) {
		t.Errorf("%v is not found in its group %s", who, group.Name)
	}
}

func TestReadingByRole(t *testing.T) {
	config := DefaultConfig()
	config.DataDir = t.TempDir()
	config.Log.Dir = filepath.Join(config.DataDir, "log")
	config.Log.FullReaders, config.Log.StatusReaders = []string{"anna"}, []string{"bob"}
	log, err := openJournal(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, id := range []string{"A", "B"} {
		if err := log.Write(&logging.Record{
			Event: logging.Delivered, ID: id, User: "carl", Client: netip.MustParseAddr("203.0.113.9"), NextHost: netip.MustParseAddr("192.0.2.1"),
			Sender: "carl@example.org", Recipient: "eve@example.net", Subject: "secret",
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var records []logging.Action
	var auditErr error
	handler := &logRead{config, func(a logging.Action) error {
		records = append(records, a)
		return auditErr
	}}
	ask := func(who person, query url.Values) *httptest.ResponseRecorder {
		records = nil
		w := deadlines{httptest.NewRecorder()}
		r := httptest.NewRequest(http.MethodGet, "/v1/log?"+query.Encode(), nil)
		handler.ServeHTTP(w, r.WithContext(context.WithValue(t.Context(), peerKey{}, who)))
		return w.ResponseRecorder
	}
	anna, bob := person{70001, "anna"}, person{70002, "bob"}

	all := ask(anna, url.Values{"last": {"-1"}, "recipient": {"eve@example.net"}})
	if all.Code != http.StatusOK || strings.Count(all.Body.String(), "carl@example.org") != 2 {
		t.Errorf("%d %s", all.Code, all.Body)
	}
	if len(records) != 1 || records[0].Matched != 2 || records[0].User != "anna" || !slices.Equal(records[0].Scope, []logging.Scope{logging.ScopeRecipient}) {
		t.Errorf("%+v", records)
	}
	status := ask(bob, url.Values{"last": {"-1"}, "event": {"delivered"}})
	lines := bufio.NewScanner(status.Body)
	n := 0
	for ; lines.Scan(); n++ {
		line, err := logging.ParseLine(lines.Bytes())
		if err != nil || line.ID == "" || !line.NextHost.IsValid() || line.Event != logging.Delivered {
			t.Errorf("%s %v", lines.Bytes(), err)
		}
		for _, word := range []string{"carl", "eve@", "example", "secret", "203.0.113.9"} {
			if strings.Contains(lines.Text(), word) {
				t.Errorf("%s stands in %s", word, lines.Text())
			}
		}
	}
	if n != 2 {
		t.Errorf("%d lines", n)
	}
	for name, refused := range map[string]*httptest.ResponseRecorder{
		"status by address": ask(bob, url.Values{"address": {"eve@example.net"}}),
		"status by user":    ask(bob, url.Values{"user": {"carl"}}),
		"nobody":            ask(person{70003, "dora"}, url.Values{}),
	} {
		if refused.Code != http.StatusForbidden || strings.Contains(refused.Body.String(), "carl") {
			t.Errorf("%s: %d %s", name, refused.Code, refused.Body)
		}
	}
	auditErr = errors.New("disk")
	if w := ask(anna, url.Values{"last": {"-1"}}); w.Code != http.StatusInsufficientStorage || strings.Contains(w.Body.String(), "carl") {
		t.Errorf("unrecorded: %d %s", w.Code, w.Body)
	}
}

// A reading is on record before anything of it is shown, once, and with the count of all that
// it finds, however much that is; one that sums up shows nothing of the lines before its end.
func TestReadingIsRecordedBeforeItIsShown(t *testing.T) {
	raw := make([]byte, heldBack/4)
	damaged := errors.New("damaged")
	for _, c := range []struct {
		name            string
		lines           int
		end             error
		how             reading
		matched         int
		failed, refused bool
	}{
		{name: "few", lines: 3, matched: 3},
		{name: "none"},
		{name: "many", lines: 40, matched: 40},
		{name: "followed", lines: 3, how: following},
		{name: "broken off", lines: 2, end: damaged, matched: 2, failed: true},
		{name: "refused", lines: 3, matched: 3, refused: true},
		{name: "many, refused", lines: 40, matched: 40, refused: true},
		{name: "summed", lines: 40, how: summing, matched: 40},
		{name: "summed, refused", lines: 3, how: summing, matched: 3, refused: true},
	} {
		shown, records := 0, 0
		lines := recorded(func(yield func(logging.Line, error) bool) {
			for range c.lines {
				if !yield(logging.Line{Raw: raw}, nil) {
					return
				}
			}
			if c.end != nil {
				yield(logging.Line{}, c.end)
			}
		}, c.how, func(found int, failed bool) error {
			if records++; found != c.matched || failed != c.failed || shown > 0 && c.how != summing {
				t.Errorf("%s: %d found, failed %v, %d shown before", c.name, found, failed, shown)
			}
			if c.refused {
				return errNotRecorded
			}
			return nil
		})
		var last error
		for _, err := range lines {
			if last = err; err == nil {
				shown++
			}
		}
		if want := map[bool]int{false: c.lines, true: 0}[c.refused && c.how != summing]; shown != want || records != 1 {
			t.Errorf("%s: %d shown, want %d; %d records", c.name, shown, want, records)
		}
		if want := map[bool]error{true: errNotRecorded, false: c.end}[c.refused]; last != want {
			t.Errorf("%s: it ends with %v", c.name, last)
		}
	}
}

// deadlines is a recorder that takes deadlines as a connection does.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetReadDeadline(time.Time) error  { return nil }
func (deadlines) SetWriteDeadline(time.Time) error { return nil }

func TestOnlyLog(t *testing.T) {
	role := func(who person) logRole {
		return map[string]logRole{"anna": roleFull, "bob": roleStatus}[who.name]
	}
	handler := onlyLog(role, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, c := range []struct {
		name, path string
		want       int
	}{
		{"anna", "/v1/queue", 200}, {"anna", "/v1/log", 200},
		{"bob", "/v1/queue", 403}, {"bob", "/v1/erase", 403}, {"bob", "/v1/log", 200}, {"bob", "/v1/health", 200}, {"bob", "/v1/log/../queue", 403},
		{"dora", "/v1/reload", 403}, {"dora", "/v1/audit", 403},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, c.path, nil)
		handler.ServeHTTP(w, r.WithContext(context.WithValue(t.Context(), peerKey{}, person{70001, c.name})))
		if w.Code != c.want {
			t.Errorf("%s asks %s: %d", c.name, c.path, w.Code)
		}
	}
}

func TestParseMoment(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 5, 4, 12, 30, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"2h":                   now.Add(-2 * time.Hour),
		"3d":                   now.Add(-72 * time.Hour),
		"2026-05-01":           time.Date(2026, 5, 1, 0, 0, 0, 0, zone),
		"2026-05-01 13:30":     time.Date(2026, 5, 1, 13, 30, 0, 0, zone),
		"2026-05-01 13:30:15":  time.Date(2026, 5, 1, 13, 30, 15, 0, zone),
		"2026-05-01T13:30:00Z": time.Date(2026, 5, 1, 13, 30, 0, 0, time.UTC),
		"08:15":                time.Date(2026, 5, 4, 8, 15, 0, 0, zone),
		"":                     {},
	} {
		if got, err := parseMoment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2026-13-01", "25:00"} {
		if got, err := parseMoment(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
