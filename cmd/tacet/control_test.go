package main

import (
	"context"
	"errors"
	"iter"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// desk is an operator's queue of two messages, and a note of what was done to it.
type desk struct {
	queue.Admin // what the tests do not ask for
	messages    []*queue.Envelope
	broken      error // what List ends with
	done        []string
}

func newDesk() *desk {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	message := func(at time.Time, from queue.ReversePath, to ...queue.Recipient) *queue.Envelope {
		return &queue.Envelope{ID: queue.NewID(at), Arrived: at, Sender: from, Recipients: to, Size: 1234, Subject: "secret plans"}
	}
	return &desk{messages: []*queue.Envelope{
		message(now.Add(-26*time.Hour), "anna@example.org",
			queue.Recipient{Path: "bob@example.net", State: queue.Delivered},
			queue.Recipient{Path: "carl@example.net", Attempts: 3, Next: now.Add(20 * time.Minute),
				Last: queue.Reply{Code: 451, Enhanced: queue.Enhanced{4, 7, 1}, Text: "come\x1b[31m back later", Stage: queue.StageRcpt}},
			queue.Recipient{Path: "dora@example.net", State: queue.Held}),
		message(now.Add(-90*time.Second), "",
			queue.Recipient{Path: "eve@example.com", Attempts: 1, Next: now.Add(-time.Second),
				Last: queue.Reply{Cause: queue.CauseRefused, Stage: queue.StageConnect}}),
	}}
}

func (d *desk) List(context.Context, queue.Filter) iter.Seq2[*queue.Envelope, error] {
	return func(yield func(*queue.Envelope, error) bool) {
		for _, e := range d.messages {
			if !yield(e, nil) {
				return
			}
		}
		if d.broken != nil {
			yield(nil, d.broken)
		}
	}
}

func (d *desk) Get(_ context.Context, id queue.ID) (*queue.Envelope, error) {
	for _, e := range d.messages {
		if e.ID == id {
			return e, nil
		}
	}
	return nil, queue.ErrNotFound
}

func (d *desk) act(what string, id queue.ID) error {
	if _, err := d.Get(context.Background(), id); err != nil {
		return err
	}
	d.done = append(d.done, what+" "+id.String())
	return nil
}

func (d *desk) Hold(_ context.Context, id queue.ID) error    { return d.act("hold", id) }
func (d *desk) Release(_ context.Context, id queue.ID) error { return d.act("release", id) }
func (d *desk) Retry(_ context.Context, id queue.ID) error   { return d.act("retry", id) }
func (d *desk) RetryAll(context.Context) (int, error)        { return len(d.messages), nil }

// hands are what acts on a desk. What they should delete is always busy.
type hands struct{ *desk }

func (hands) Delete(context.Context, queue.ID) error { return queue.ErrBusy }

// dialDesk serves the desk on a control socket and returns its client, and
// the audit records of what is asked.
func dialDesk(t *testing.T, d *desk, auditErr error) (*controlClient, *[]logging.Action) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := listenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	var records []logging.Action
	c := &control{
		logRead: &logRead{config: DefaultConfig()},
		queue:   d, actions: hands{d}, log: log.New(t.Output(), "", 0),
		health:  func() health { return health{Faults: []string{"disk_full"}} },
		reload:  func(context.Context) ([]string, error) { return []string{"listener"}, nil },
		metrics: http.NotFoundHandler(),
		audit: func(a logging.Action) error {
			records = append(records, a)
			return auditErr
		},
		reloadUsers: func() error { return errors.New("line 3: want name:hash") },
	}
	s := c.server()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	client, err := dialControl(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return client, &records
}

func TestControlList(t *testing.T) {
	d := newDesk()
	client, records := dialDesk(t, d, nil)
	var got []message
	for m, err := range client.List(t.Context(), listFilter{sender: "<>", domain: "Example.net", state: "held", older: time.Hour}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if len(got) != 2 || got[0].ID != d.messages[0].ID.String() || got[1].Sender != "<>" || got[1].Recipients[0].Reason == "" {
		t.Errorf("got %+v", got)
	}
	who := personOf(os.Getuid())
	want := []logging.Scope{logging.ScopeSender, logging.ScopeDomain, logging.ScopeTime}
	if a := (*records)[0]; a.UID != who.uid || a.User != who.name || a.What != logging.VerbQueueList || !slices.Equal(a.Scope, want) {
		t.Errorf("on record: %+v", a)
	}
}

// A list that breaks off is not taken for a whole one.
func TestControlListBreaksOff(t *testing.T) {
	d := newDesk()
	d.broken = queue.ErrUnavailable
	client, _ := dialDesk(t, d, nil)
	n, last := 0, error(nil)
	for _, err := range client.List(t.Context(), listFilter{}) {
		n++
		last = err
	}
	if n != 3 || last == nil || last.Error() != queue.ErrUnavailable.Error() {
		t.Errorf("%d items, %v", n, last)
	}
}

func TestControlActions(t *testing.T) {
	d := newDesk()
	client, records := dialDesk(t, d, nil)
	id := d.messages[0].ID
	for _, act := range []func(context.Context, queue.ID) error{client.Hold, client.Release, client.Retry} {
		if err := act(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := act(t.Context(), queue.ID{}); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("for no message: %v", err)
		}
	}
	if err := client.Delete(t.Context(), id); !errors.Is(err, queue.ErrBusy) {
		t.Errorf("delete: %v", err)
	}
	if n, err := client.RetryAll(t.Context()); n != 2 || err != nil {
		t.Errorf("retry all: %d, %v", n, err)
	}
	if want := []string{"hold " + id.String(), "release " + id.String(), "retry " + id.String()}; !slices.Equal(d.done, want) {
		t.Errorf("done: %q", d.done)
	}
	if len(*records) != 8 || (*records)[0].ID != id.String() || (*records)[7].Scope[0] != logging.ScopeAll {
		t.Errorf("on record: %+v", *records)
	}
	m, err := client.Show(t.Context(), id)
	if err != nil || len(m.Recipients) != 3 || m.Recipients[1].Reply == "" {
		t.Errorf("show: %+v, %v", m, err)
	}
	if err := client.reloadUsers(t.Context()); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("reload users: %v", err)
	}
}

// What cannot be recorded is not done.
func TestControlWithoutAudit(t *testing.T) {
	d := newDesk()
	client, _ := dialDesk(t, d, errors.New("no space left on device"))
	if err := client.Hold(t.Context(), d.messages[0].ID); err == nil || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("hold: %v", err)
	}
	if _, err := client.Show(t.Context(), d.messages[0].ID); err == nil {
		t.Error("a message was shown")
	}
	for m, err := range client.List(t.Context(), listFilter{}) {
		if err == nil {
			t.Errorf("listed %+v", m)
		}
	}
	if len(d.done) > 0 {
		t.Errorf("done: %q", d.done)
	}
}

func TestControlAnswers(t *testing.T) {
	client, _ := dialDesk(t, newDesk(), nil)
	for _, one := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "health", http.StatusServiceUnavailable},
		{http.MethodPost, "reload", http.StatusOK},
		{http.MethodPost, "audit?verb=log_read", http.StatusOK},
		{http.MethodPost, "audit?verb=queue_delete", http.StatusBadRequest},
		{http.MethodPost, "audit", http.StatusBadRequest},
		{http.MethodGet, "queue?older=soon", http.StatusBadRequest},
		{http.MethodGet, "queue?state=gone", http.StatusBadRequest},
		{http.MethodGet, "queue/nonsense", http.StatusBadRequest},
		{http.MethodGet, "queue/0000000000000000/hold", http.StatusMethodNotAllowed},
		{http.MethodGet, "nothing", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), one.method, "http://tacet/v1/"+one.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != one.status {
			t.Errorf("%s %s: %s, want %d", one.method, one.path, resp.Status, one.status)
		}
	}
}

func TestDialWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	if _, err := dialControl(t.Context(), filepath.Join(dir, "control.sock")); !errors.Is(err, errNoDaemon) {
		t.Errorf("without a socket: %v", err)
	}
	// A daemon that was killed leaves its socket behind.
	path := filepath.Join(dir, "left.sock")
	l, err := listenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept.sock")
	if err := os.Rename(path, kept); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := dialControl(t.Context(), kept); !errors.Is(err, errNoDaemon) {
		t.Errorf("with the socket of one that is gone: %v", err)
	}
}

// The table lines up, ends where the terminal does, and lets nothing through
// that plays with it. The subject is not in it.
func TestQueueTable(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var out strings.Builder
	table := queueTable{out: &out, now: now}
	d := newDesk()
	for _, e := range d.messages {
		if err := table.add(describe(e)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	want := `ID                  AGE    SIZE  SENDER            RECIPIENTS LEFT      STATE    NEXT    REASON
` + d.messages[0].ID.String() + `  1d02h  1.2 kB  anna@example.org  carl@example.net +1  waiting  in 20m  451 4.7.1 come` + "\uFFFD" + `[31m back later
` + d.messages[1].ID.String() + `     1m  1.2 kB  <>                eve@example.com      waiting  due     connection refused
2 messages, 2.5 kB
`
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := describe(d.messages[0]).print(&out, now); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, "\x1b") || strings.Contains(text, "secret plans") || !strings.Contains(text, "carl@example.net") {
		t.Errorf("shown:\n%s", text)
	}
}
