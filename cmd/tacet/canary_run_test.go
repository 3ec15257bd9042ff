package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// Every input of the relay is a random token, every outcome that can be had in
// one process happens, and every sink is searched: what the rules forbid is
// nowhere, what they demand is there.
func TestCanaries(t *testing.T) {
	for _, live := range []string{"plain", "sealed"} {
		t.Run(live, func(t *testing.T) { canaries(t, live) })
	}
}

func canaries(t *testing.T, live string) {
	w := newCanaryWorld(t, "127.0.0.1:0")
	w.keepLog(live)
	s := startCanaryRelay(t, w, nil)
	seen := s.everything(t)
	leaks, missing := seen.compare(w.canarySet, slices.Concat(canaryRules(), reportRules()))
	for _, leak := range leaks {
		t.Error("leaks:", leak)
	}
	for _, gap := range missing {
		t.Error("not seen:", gap)
	}
	if !bytes.Contains(s.operations.all(), []byte("panic_contained")) {
		t.Error("the panic left no event")
	}
	w.everyEventHappened(t)
	w.everyCommandRan(t)
}

// everything lets it all happen, ends the relay and returns what was seen.
func (s *canaryRelay) everything(t *testing.T) sightings {
	t.Helper()
	w, saw := s.w, sightings{}
	w.misbehave()
	w.incoming()
	w.judged()
	w.panics()
	followed := w.followed(t, saw)
	w.submit("starttls", "a", "b", "c", "d")
	w.chunks()
	w.submit("implicit", "e")
	w.until("delivered", 5) // by a twice, by e, of our own domain, and the report
	w.until("deferred", 2)
	followed()
	w.look(saw)

	var first queue.ID
	for e, err := range s.store.List(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		first = e.ID
	}
	w.commands(t, saw, s.cli, first.String())
	w.incidents(t, saw, s.cli)
	w.played(t, saw, w.play, func(out io.Writer) { s.at(atPrint, &canarySight{path: "try", answer: out}) })
	core, err := s.checked()
	if err != nil {
		t.Fatal(err)
	}
	lasting := core
	core.Schedule.Lifetime = time.Nanosecond
	s.relay.Reload(core)
	if code, _ := w.cli("queue", "retry", "--all"); code != 0 {
		t.Errorf("retry: %d", code)
	}
	w.until("expired", 4)
	s.relay.Reload(lasting)
	deferred := w.count("deferred")
	w.submit("implicit", "b")
	w.until("deferred", deferred+1)
	for e, err := range s.store.List(t.Context(), queue.Filter{}) {
		if err == nil {
			code, out := w.cli("queue", "delete", e.ID.String())
			if code != 0 && !bytes.Contains(out, []byte("no such message")) { // a report that went out meanwhile
				t.Errorf("delete: %d %s", code, out)
			}
			saw.look(w.canarySet, "cli:queue-act", out)
		}
	}
	w.until("deleted", 1)
	s.reported(t, saw)
	w.look(saw)
	ctx, cancel := context.WithTimeout(context.Background(), canaryPatience)
	defer cancel()
	if err := s.stop(ctx); err != nil {
		t.Error(err)
	}
	w.look(saw)
	saw.look(w.canarySet, "operations", s.operations.all())
	w.kept(t, saw)
	w.restored(t, saw)
	w.overnight(t, saw)
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

// look searches files, next hops, resolver and clients.
func (w *canaryWorld) look(saw sightings) {
	w.t.Helper()
	saw.lookLog(w.t, w.canarySet, w.logged())
	saw.look(w.canarySet, "replies", w.replies.Bytes())
	saw.look(w.canarySet, "replies", w.extra.all())
	saw.look(w.canarySet, "dns", w.dns.questions())
	saw.look(w.canarySet, "check:scanner", w.checks.clamd.got.all())
	saw.look(w.canarySet, "check:filter", w.checks.milter.got.all())
	saw.look(w.canarySet, "check:pyzor", w.checks.pyzor.got.all())
	for name, hop := range w.hops {
		saw.look(w.canarySet, "hop:"+name, hop.received())
	}
	for _, root := range []string{"data", "log", "tmp", "play"} {
		err := filepath.WalkDir(w.path(root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // a file that is gone in the meantime has been searched before
			}
			folder, _, _ := strings.Cut(strings.TrimPrefix(path, w.path(root)+"/"), "/")
			sink := "data:" + folder
			switch name := entry.Name(); {
			case root == "log" && strings.HasPrefix(name, "audit"):
				sink = "audit"
			case root == "log" && strings.HasSuffix(name, ".jsonl") && !w.sealed:
				return nil // its lines have been looked at
			case root == "log":
				sink = "log:file"
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
