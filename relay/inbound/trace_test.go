package inbound_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tacet/relay"
	"tacet/relay/inbound"
)

// scribe is a Tracer that writes everything down.
type scribe struct {
	on     atomic.Bool
	mu     sync.Mutex
	lines  []string
	closed int
}

func (s *scribe) Active() bool { return s.on.Load() }
func (s *scribe) Trace(inbound bool, peer netip.Addr, host string) relay.Trace {
	s.note("connection of %v %v %q", inbound, peer, host)
	return s
}
func (s *scribe) Line(by byte, text []byte) { s.note("%c %s", by, text) }
func (s *scribe) User(name string)          { s.note("user %s", name) }
func (s *scribe) Begin(id, user string, client netip.Addr, sender string) {
	s.note("begin %q %q %v %s", id, user, client, sender)
}
func (s *scribe) Recipient(address string) {
	if address != "" {
		s.note("about %s", address)
	}
}
func (s *scribe) Content(octets []byte) { s.note("content %q", octets) }
func (s *scribe) End()                  {}
func (s *scribe) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

func (s *scribe) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *scribe) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n") + "\n"
}

func withTracer(s *scribe) option {
	return func(c *inbound.Config, _ *inbound.Listener, _ *fakeRelay) { c.Tracer = s }
}

func TestTraceOfASession(t *testing.T) {
	s := new(scribe)
	s.on.Store(true)
	w := start(t, withTracer(s))
	p := w.hello()
	p.send("MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nRCPT TO:<q@example.net>\r\nDATA\r\n")
	for _, want := range []string{"250 2.1.0", "250 2.1.5", "250 2.1.5", "354"} {
		p.expect(want)
	}
	p.send("Subject: x\r\n\r\n..dot\r\n.\r\n")
	p.expect("250 2.0.0")
	p.ask("QUIT", "221")
	p.expectEnd()
	w.stop()
	got := s.text()
	order := []string{
		"connection of true 192.0.2.1", "> 220 relay.example", "< EHLO client.example", "> 250-relay.example", "> 250 ENHANCEDSTATUSCODES",
		`begin "" "" 192.0.2.1 s@example.org`, "< MAIL FROM:<s@example.org>", "> 250 2.1.0",
		"about r@example.net", "< RCPT TO:<r@example.net>", "> 250 2.1.5", "about q@example.net", "< RCPT TO:<q@example.net>", "> 250 2.1.5",
		"< DATA", "> 354", "content ", "* (content, octets: 20)", "> 250 2.0.0", "< QUIT", "> 221",
	}
	rest := got
	for _, want := range order {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place:\n%s", want, got)
		}
		rest = after
	}
	if s.closed != 1 {
		t.Errorf("closed %d times", s.closed)
	}
}

// Whatever a client does with its credentials, no trace has them.
func TestTraceHasNoCredentials(t *testing.T) {
	const password = "canary-password"
	b64 := base64.StdEncoding
	plain := b64.EncodeToString([]byte("\x00alice\x00" + password))
	secret, user := b64.EncodeToString([]byte(password)), b64.EncodeToString([]byte("canary-user"))
	s := new(scribe)
	s.on.Store(true)
	w := start(t, withTracer(s), withTLS)
	clear := w.hello()
	clear.ask("AUTH PLAIN "+plain, "538") // before TLS
	clear.ask("AUTH LOGIN", "538")
	clear.ask(user, "500") // as if it had been asked
	clear.ask(secret, "500")
	clear.ask("AUTHPLAIN "+plain, "500")
	p, _ := w.secure(false)
	p.ask("AUTH PLAIN "+plain, "535")
	p.ask("AUTH PLAIN", "334")
	p.ask(plain, "535")
	p2, _ := w.secure(false)
	p2.ask("AUTH LOGIN "+user, "334")
	p2.ask(secret, "535")
	p2.ask("AUTH "+secret, "504")
	p2.ask("AUTH LOGIN", "334 VXNlcm5hbWU6")
	p2.ask(b64.EncodeToString([]byte("bob")), "334")
	p2.ask(b64.EncodeToString([]byte("hunter2")), "235")
	p2.ask("NOOP", "250")
	got := s.text()
	for _, leak := range []string{password, plain, secret, "canary-user", user, "hunter2", b64.EncodeToString([]byte("hunter2")), "VXNlcm5hbWU6"} {
		if strings.Contains(got, leak) {
			t.Errorf("%q is in the trace:\n%s", leak, got)
		}
	}
	for _, want := range []string{"< AUTH PLAIN (masked)", "< (AUTH: masked)", "> 334 (masked)", "> 535 5.7.8", "> 235", "user bob", "* (TLS 1.3"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing:\n%s", want, got)
		}
	}
}

// A trace begins and ends between two commands of an open connection.
func TestTraceComesAndGoes(t *testing.T) {
	s := new(scribe)
	w := start(t, withTracer(s))
	p := w.hello()
	p.ask("NOOP one", "250")
	s.on.Store(true)
	p.ask("NOOP two", "250")
	p.ask("MAIL FROM:<s@example.org>", "250")
	s.on.Store(false)
	p.ask("RCPT TO:<three@example.org>", "250")
	s.on.Store(true)
	p.ask("RCPT TO:<four@example.org>", "250")
	p.ask("QUIT", "221")
	p.expectEnd()
	w.stop()
	got := s.text()
	for what, want := range map[string]bool{"one": false, "two": true, "three": false, "RCPT TO:<four": true} {
		if strings.Contains(got, what) != want {
			t.Errorf("%s:\n%s", what, got)
		}
	}
	if s.closed != 2 {
		t.Errorf("closed %d times", s.closed)
	}
}
