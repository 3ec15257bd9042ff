package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
	"tacet/relay/recipients"
)

// primary is the host that has the mailboxes: it takes all mail, and tells of it.
type primary struct {
	swallow
	taken chan queue.ForwardPath
}

// Accept implements inbound.Relay.
func (p primary) Accept(ctx context.Context, e *queue.Envelope, content io.Reader, s relay.Session) (queue.ID, error) {
	id, err := p.swallow.Accept(ctx, e, content, s)
	if err == nil {
		for _, r := range e.Recipients {
			p.taken <- r.Path
		}
	}
	return id, err
}

// startPrimary lets a primary listen at an address until the test ends.
func startPrimary(t *testing.T, address string) primary {
	t.Helper()
	p := primary{taken: make(chan queue.ForwardPath, 1000)}
	serveAs(t, address, p)
	return p
}

// startPickyPrimary lets one listen that does not take everything.
func startPickyPrimary(t *testing.T, address string) {
	t.Helper()
	serveAs(t, address, picky{primary{taken: make(chan queue.ForwardPath, 1000)}})
}

func serveAs(t *testing.T, address string, p inbound.Relay) {
	t.Helper()
	l, err := inbound.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	s := inbound.New(inbound.Config{Hostname: "mail.example.org", Relay: p, TLS: &tls.Config{Certificates: []tls.Certificate{ownPair(t)}}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l, inbound.Listener{Kind: inbound.MX}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // who is still connected is cut off
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func ownPair(t *testing.T) tls.Certificate {
	t.Helper()
	content, err := selfSign("mail.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// incoming is a message from outside.
func incoming(to string) dialogue {
	return dialogue{"EHLO client.example", "250", "MAIL FROM:<a@far.example>", "250", "RCPT TO:<" + to + ">", "250",
		"DATA", "354", "Subject: x\r\n\r\nx\r\n.", "250", "QUIT", "221"}
}

// A primary that comes back and says ETRN gets its mail at once; nobody else starts a
// queue, and nobody starts another's.
func TestETRN(t *testing.T) {
	at := unused(t)
	d := startFallback(t, strings.Replace(fallbackText, "[127.0.0.1]:1", at, 1)+"probe = \"1h\"\n")
	mx := d.address(0).String()
	const messages = 5
	for i := range messages {
		incoming(fmt.Sprintf("b%d@example.org", i)).hold(t, mx)
	}
	dialogue{"ETRN example.org", "503", "EHLO mail.example.org", "250", "ETRN", "501", "ETRN far.example", "459", "ETRN #1", "459",
		"MAIL FROM:<>", "250", "ETRN example.org", "503"}.hold(t, mx)
	p := startPrimary(t, at)
	dialogue{"EHLO mail.example.org", "250", "ETRN @EXAMPLE.org", "250"}.hold(t, mx)
	seen := make(map[queue.ForwardPath]int)
	for range messages {
		select {
		case to := <-p.taken:
			seen[to]++
		case <-time.After(scriptPatience):
			t.Fatalf("%d of %d messages came: %v", len(seen), messages, seen)
		}
	}
	if len(seen) != messages {
		t.Errorf("%v came, want %d different ones", seen, messages)
	}
}

// Who has no address of the primary is told no, and where nothing waits that is said.
func TestETRNOfStrangers(t *testing.T) {
	d := startFallback(t, strings.Replace(fallbackText, "[127.0.0.1]:1", "192.0.2.1", 1))
	dialogue{"EHLO mail.example.org", "250", "ETRN example.org", "459"}.hold(t, d.address(0).String())
	empty := startFallback(t, fallbackText)
	dialogue{"EHLO mail.example.org", "250", "ETRN example.org", "251"}.hold(t, empty.address(0).String())
	if n := d.store.Stats().Messages + empty.store.Stats().Messages; n != 0 {
		t.Errorf("ETRN alone left %d messages", n)
	}
}

// The operator hears once that mail waits too long for the primary, and the
// figures say how long.
func TestPrimaryAlarm(t *testing.T) {
	var said bytes.Buffer
	d := startFallback(t, fallbackText+"alarm = \"1h\"\n",
		deps{ops: logging.NewOperations(logging.OperationsOptions{To: &said, Format: logging.FormatJSON})})
	incoming("b@example.org").hold(t, d.address(0).String())
	now := time.Now()
	for _, after := range []time.Duration{time.Minute, 2 * time.Hour, 3 * time.Hour} {
		if err := d.lookAtPrimary(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	d.ops.Log(logging.OpReady) // what was said before is there
	if n := strings.Count(said.String(), `"primary_late"`); n != 1 {
		t.Errorf("%d alarms: %s", n, &said)
	}
	if d.dwell.waiting.Load() != 1 || d.dwell.oldest.Load() < now.Add(-time.Minute).Unix() {
		t.Errorf("waiting %d, oldest %d", d.dwell.waiting.Load(), d.dwell.oldest.Load())
	}
}

// Unknown recipients are refused in the session and on record as such, by the list while the
// primary is away, and by the primary's own word where the list is silent.
func TestRecipientsInSession(t *testing.T) {
	dir := t.TempDir()
	key := recipients.NewKey()
	list, err := recipients.Build(key, []string{"anna@example.org"}, recipients.Options{Delimiters: "+"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"verify.key": key.Verify().Text(), "r.list": string(list)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := unused(t)
	d := startFallback(t, strings.Replace(fallbackText, "[127.0.0.1]:1", at, 1)+fmt.Sprintf(
		"[recipients]\nkey = %q\nsource = \"file:%s\"\nprobe = true\nunknown = \"defer\"\n", filepath.Join(dir, "verify.key"), filepath.Join(dir, "r.list")))
	soon(t, "the list in use", func() bool { return d.people.Load().List() != nil })
	mx := d.address(0).String()
	session := func(replies ...string) dialogue {
		all := dialogue{"EHLO c.example", "250", "MAIL FROM:<a@far.example>", "250"}
		for i, to := range []string{"anna@example.org", "Anna+x@example.org", "nobody@example.org", "postmaster@example.org", "anna@xn--bcher-kva.example", "no@xn--bcher-kva.example"} {
			all = append(all, "RCPT TO:<"+to+">", replies[i])
		}
		return all
	}
	session("250", "250", "550 5.1.1", "250", "450", "450").hold(t, mx)
	startPickyPrimary(t, at)
	session("250", "250", "550 5.1.1", "250", "250", "550 5.1.1").hold(t, mx)
	d.journal.Secure()
	found, err := os.ReadFile(newestLog(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(found), `"reason":"user_unknown"`); n != 3 {
		t.Errorf("%d records of unknown users, want 3:\n%s", n, found)
	}
}

// picky takes mail to mailboxes that begin with "a".
type picky struct{ primary }

// Admit implements inbound.Relay.
func (picky) Admit(_ bool, _ *queue.Origin, _ queue.ReversePath, to queue.ForwardPath) error {
	if to[0] == 'a' {
		return nil
	}
	return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 1, 1}, Text: "no such user"}
}

func newestLog(t *testing.T, d *daemon) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.config.Log.Dir, "relay-*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log: %v", err)
	}
	return files[len(files)-1]
}

// soon waits for what other goroutines do.
func soon(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.After(scriptPatience)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// The client's address travels with the mail to a primary that trusts the fallback, which
// itself records it nowhere.
func TestClientTravels(t *testing.T) {
	at := unused(t)
	last := startPrimary(t, at)
	p := startFallback(t, strings.NewReplacer("[127.0.0.1]:1", at, "kind = \"mx\"", "kind = \"mx\"\nproxy_from = [\"127.0.0.0/8\"]").Replace(fallbackText)+
		"[log]\nincoming_client = true\n[site]\naddresses = [\"127.0.0.1\"]\n")
	for _, by := range []string{"proxy-v1", "proxy-v2"} {
		f := startFallback(t, strings.Replace(fallbackText, "[127.0.0.1]:1", p.address(0).String(), 1)+"introduce = \""+by+"\"\n")
		incoming("b@example.org").holdFrom(t, "127.0.0.77", f.address(0).String())
		select {
		case <-last.taken:
		case <-time.After(scriptPatience):
			t.Fatalf("%s: the message did not come", by)
		}
		f.journal.Secure()
		if own, err := os.ReadFile(newestLog(t, f)); err != nil || bytes.Contains(own, []byte("127.0.0.77")) || !bytes.Contains(own, []byte("b@example.org")) {
			t.Errorf("%s: the fallback's log: %v\n%s", by, err, own)
		}
	}
	p.journal.Secure()
	found, err := os.ReadFile(newestLog(t, p))
	if err != nil || bytes.Count(found, []byte(`"client":"127.0.0.77"`)) < 2 || bytes.Count(found, []byte(`"remote_id":`)) < 2 {
		t.Errorf("the primary's log: %v\n%s", err, found)
	}
	raw, err := net.Dial("tcp", p.address(0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(scriptPatience))
	if _, err := raw.Write([]byte("EHLO client.example\r\n")); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(raw); len(said) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection without a header reads %q, %v", said, err)
	}
}
