package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Every input of the relay is a random token, every outcome that can be had in
// one process happens, and every sink is searched: what the rules forbid is
// nowhere, what they demand is there.
func TestCanaries(t *testing.T) {
	w := newCanaryWorld(t, "127.0.0.1:0")
	s := startCanaryRelay(t, w, nil)
	seen := s.everything(t)
	leaks, missing := seen.compare(w.canarySet, canaryRules(), func(string) bool { return false })
	for _, leak := range leaks {
		t.Error("leaks:", leak)
	}
	for _, gap := range missing {
		t.Error("not seen:", gap)
	}
	if !bytes.Contains(s.operations.all(), []byte("panic_contained")) {
		t.Error("the panic left no event")
	}
	for e := logging.Event(1); e.String() != ""; e++ {
		if !bytes.Contains(w.logged(), []byte(`"event":"`+e.String()+`"`)) {
			t.Errorf("nothing was %s", e)
		}
	}
}

// everything lets it all happen, ends the relay and returns what was seen.
func (s *canaryRelay) everything(t *testing.T) sightings {
	t.Helper()
	w, saw := s.w, sightings{}
	w.misbehave()
	w.incoming()
	w.panics()
	w.submit("starttls", "a", "b", "c", "d")
	w.until("delivered", 3) // by a, of our own domain, and the report
	w.until("deferred", 2)
	w.look(saw)

	var first queue.ID
	for e, err := range s.store.List(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		first = e.ID
	}
	w.commands(t, saw, w.cli, first.String())
	w.until("deferred", 4)
	core := s.config.core()
	core.Schedule.Lifetime = time.Nanosecond
	s.relay.Reload(core)
	if code, _ := w.cli("queue", "retry", "--all"); code != 0 {
		t.Errorf("retry: %d", code)
	}
	w.until("expired", 2)
	s.relay.Reload(s.config.core())
	w.submit("implicit", "b")
	w.until("deferred", 5)
	for e, err := range s.store.List(t.Context(), queue.Filter{}) {
		if err == nil {
			if code, out := w.cli("queue", "delete", e.ID.String()); code != 0 {
				t.Errorf("delete: %d %s", code, out)
			}
		}
	}
	w.until("deleted", 1)
	s.rejectContent(t)
	w.look(saw)
	ctx, cancel := context.WithTimeout(context.Background(), canaryPatience)
	defer cancel()
	if err := s.stop(ctx); err != nil {
		t.Error(err)
	}
	w.look(saw)
	saw.look(w.canarySet, "operations", s.operations.all())
	return saw
}

// panics has a session panic with a canary.
func (w *canaryWorld) panics() {
	c := w.dial("mx", w.of("mx.client"))
	defer c.conn.Close()
	c.read()
	c.say("250", "EHLO client.example")
	c.say("250", "MAIL FROM:<x@example.org>")
	io.WriteString(c.conn, "RCPT TO:<"+w.new("panic", "%s@own.example")+"@own.example>\r\n")
	for reply := c.read(); reply != ""; reply = c.read() {
	}
}

// rejectContent writes the record of a refused content: no check refuses any yet.
func (s *canaryRelay) rejectContent(t *testing.T) {
	t.Helper()
	record := logging.Record{Event: logging.ContentRejected, Sender: "x@example.org", HasSender: true, Recipient: "y@own.example", Code: 550, Stage: logging.StageContent}
	header, _, _ := strings.Cut(s.w.message(), "\r\n\r\n")
	for line := range strings.Lines(header) {
		name, value, _ := strings.Cut(line, ": ")
		if name != "Bcc" {
			record.Headers = append(record.Headers, logging.HeaderField{Name: name, Value: strings.TrimSpace(value)})
		}
	}
	if err := (hookedJournal{journal{s.journal}, s}).Write(&record); err != nil {
		t.Fatal(err)
	}
	s.journal.Secure()
}

// look searches files, next hops, resolver and clients.
func (w *canaryWorld) look(saw sightings) {
	w.t.Helper()
	saw.lookLog(w.t, w.canarySet, w.logged())
	saw.look(w.canarySet, "replies", w.replies.Bytes())
	saw.look(w.canarySet, "replies", w.extra.all())
	saw.look(w.canarySet, "dns", w.dns.questions())
	for name, hop := range w.hops {
		saw.look(w.canarySet, "hop:"+name, hop.received())
	}
	for _, root := range []string{"data", "log", "tmp"} {
		err := filepath.WalkDir(w.path(root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || root == "log" && strings.HasPrefix(entry.Name(), "relay-") {
				return nil // a file that is gone in the meantime has been searched before
			}
			folder, _, _ := strings.Cut(strings.TrimPrefix(path, w.path(root)+"/"), "/")
			sink := "data:" + folder
			if root == "log" {
				sink = "audit"
			}
			content, err := os.ReadFile(path)
			if err == nil {
				saw.look(w.canarySet, sink, content)
				saw.look(w.canarySet, sink, []byte(path))
			}
			return nil
		})
		if err != nil {
			w.t.Error(err)
		}
	}
}

// cli runs a command and returns what it printed.
func (w *canaryWorld) cli(args ...string) (int, []byte) {
	var out bytes.Buffer
	code := run(w.t.Context(), append(args, "--config", w.config), strings.NewReader(""), &out, &out)
	return code, out.Bytes()
}

// commands runs the commands that an operator has, and asks the control
// socket. The message with the ID is held and released.
func (w *canaryWorld) commands(t *testing.T, saw sightings, run func(...string) (int, []byte), id string) {
	t.Helper()
	for _, args := range [][]string{
		{"queue", "list"}, {"queue", "list", "--json"}, {"queue", "show", id}, {"queue", "show", id, "--json"},
		{"queue", "hold", id}, {"queue", "release", id},
		{"log", "tail", "-n", "500"}, {"log", "tail", "-n", "500", "--json"}, {"user", "list"}, {"check"}, {"version"}, {"unit"}, {"incident", "list"},
	} {
		code, out := run(args...)
		if code != 0 {
			t.Errorf("%v ended with %d: %s", args, code, out)
		}
		name := "cli:" + args[0]
		switch args[0] {
		case "queue", "log":
			name += "-" + args[1]
		}
		saw.look(w.canarySet, name, out)
	}
	for sink, path := range map[string]string{"control:list": "/v1/queue", "control:show": "/v1/queue/" + id, "stats": "/v1/stats", "health": "/v1/health", "metrics": "/metrics"} {
		saw.look(w.canarySet, sink, w.ask(t, path))
	}
	// A fault of the asker's is his own business, and goes nowhere else.
	w.ask(t, "/v1/queue?older="+w.new("query"))
}

// ask asks the control socket.
func (w *canaryWorld) ask(t *testing.T, path string) []byte {
	t.Helper()
	client := &http.Client{Timeout: canaryPatience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.path("data/control.sock"))
	}}}
	res, err := client.Get("http://tacet" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
