package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"tacet/relay"
)

// scribe is a Tracer that writes everything down.
type scribe struct {
	on     atomic.Bool
	lines  []string
	begun  int
	closed int
}

func (s *scribe) Active() bool { return s.on.Load() }
func (s *scribe) Trace(inbound bool, peer netip.Addr, host string) relay.Trace {
	s.begun++
	s.note("connection of %v %v %q", inbound, peer, host)
	return s
}
func (s *scribe) Line(by byte, text []byte) { s.note("%c %s", by, text) }
func (s *scribe) User(name string)          { s.note("user %s", name) }
func (s *scribe) Begin(_, user string, client netip.Addr, sender string) {
	s.note("begin %q %v %s", user, client, sender)
}
func (s *scribe) Recipient(address string) {
	if address != "" {
		s.note("about %s", address)
	}
}
func (s *scribe) Content(octets []byte) { s.note("content %q", octets) }
func (s *scribe) End()                  { s.note("end") }
func (s *scribe) Close()                { s.closed++ }
func (s *scribe) note(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}
func (s *scribe) text() string { return strings.Join(s.lines, "\n") + "\n" }

// inOrder fails unless got has all of want, in this order.
func inOrder(t *testing.T, got string, want ...string) {
	t.Helper()
	rest := got
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("%q is missing, or not in its place:\n%s", w, got)
		}
		rest = after
	}
}

func TestTraceOfADelivery(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines, chunks} {
		synctest.Test(t, func(t *testing.T) {
			s := new(scribe)
			s.on.Store(true)
			h := newHop(t, server(offer, nil, func(_ *side, _, line string) string {
				if strings.Contains(line, "b@") {
					return "550 5.1.1 no such user"
				}
				return ""
			}))
			client := New(Config{Dial: h.dial, Hostname: "relay.example", Tracer: s}, hops(1))
			c := claim(letter, "a@example.com", "b@example.com")
			c.Envelope.Origin.User = "anna"
			client.Deliver(t.Context(), c)
			client.Close()
			h.wg.Wait()
			got := s.text()
			inOrder(t, got, "connection of false", "* (connecting", "< 220 ", "> EHLO relay.example", "< 250 ", `begin "anna"`, "> MAIL FROM:<",
				"about a@example.com", "> RCPT TO:<a@example.com>", "about b@example.com", "> RCPT TO:<b@example.com>", "end\n")
			inOrder(t, got, "about b@example.com\n< 550 5.1.1 no such user")
			inOrder(t, got, "content ", "< 250 ", "end\n")
			if s.begun != 1 || s.closed != 1 {
				t.Errorf("%d begun, %d closed", s.begun, s.closed)
			}
		})
	}
}

// What fails before MAIL is everybody's affair: their addresses are named, so
// that an incident can find it.
func TestTraceOfAConnectionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scribe)
		s.on.Store(true)
		h := newHop(t, func(v *side) { v.say("554 5.7.1 go away") })
		client := New(Config{Dial: h.dial, Hostname: "relay.example", Tracer: s}, hops(1))
		client.Deliver(t.Context(), claim(letter, "a@example.com"))
		client.Close()
		h.wg.Wait()
		inOrder(t, s.text(), "< 554 5.7.1 go away", "begin", "about a@example.com", "end")
		if s.begun != s.closed {
			t.Errorf("%d begun, %d closed", s.begun, s.closed)
		}
	})
}

// The password of a smarthost is in no trace, nor what it says to it.
func TestTraceHasNoCredentials(t *testing.T) {
	const password = "canary-password"
	for _, mechanism := range []string{"AUTH_PLAIN", "AUTH_LOGIN"} {
		ca := newAuthority(t)
		s := new(scribe)
		s.on.Store(true)
		h := newHop(t, server(secure+" "+mechanism, ca.config(t, "a.example"), func(_ *side, state, line string) string {
			switch {
			case line == "AUTH LOGIN":
				return "334 canary-prompt"
			case strings.HasPrefix(line, "AUTH PLAIN"), state == "other":
				return "535 5.7.8 canary " + line
			}
			return ""
		}))
		route := hops(1)
		route.route.Auth = &relay.Login{User: "canary-user", Password: password}
		client := New(Config{Dial: h.dialTCP, Hostname: "relay.example", Tracer: s, Roots: ca.roots()}, route)
		client.Deliver(t.Context(), claim(letter, "a@example.com"))
		client.Close()
		h.wg.Wait()
		got := s.text()
		for _, said := range h.told() {
			if secret, ok := strings.CutPrefix(said, "AUTH PLAIN "); ok && strings.Contains(got, secret) {
				t.Errorf("the trace has the login:\n%s", got)
			}
		}
		if strings.Contains(got, "canary") || !strings.Contains(got, "> (AUTH: masked)") {
			t.Errorf("%s:\n%s", mechanism, got)
		}
	}
}

// A connection that was kept from before is followed from its next transaction on, and
// no longer than somebody wants it.
func TestTraceOverAKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scribe)
		h := newHop(t, server(pipelines, nil, nil))
		client := New(Config{Dial: h.dial, Hostname: "relay.example", Tracer: s}, hops(1))
		client.Deliver(t.Context(), claim(letter, "one@example.com"))
		s.on.Store(true)
		client.Deliver(t.Context(), claim(letter, "two@example.com"))
		s.on.Store(false)
		client.Deliver(t.Context(), claim(letter, "three@example.com"))
		client.Close()
		h.wg.Wait()
		got := s.text()
		inOrder(t, got, "* (over a connection that was open)", "> RCPT TO:<two@example.com>")
		if strings.Contains(got, "one@") || strings.Contains(got, "three@") || h.dials() != 1 || s.closed != 1 {
			t.Errorf("%d dials, %d closed:\n%s", h.dials(), s.closed, got)
		}
	})
}

func TestTraceTellsWhyADialFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(scribe)
		s.on.Store(true)
		client := New(Config{Dial: refusing, Tracer: s}, hops(1))
		client.Deliver(t.Context(), claim(letter, "a@example.com"))
		client.Close()
		inOrder(t, s.text(), "about a@example.com", "* (failed: nobody there)")
	})
}

var errNobody = errors.New("nobody there")

func refusing(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errNobody }
