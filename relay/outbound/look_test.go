package outbound

import (
	"strings"
	"testing"
	"testing/synctest"

	"tacet/queue"
)

// Verify asks by RCPT, sends no content, and leaves a connection that mail goes
// over afterwards.
func TestVerify(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines, chunks} {
		synctest.Test(t, func(t *testing.T) {
			asked := hook(func(_ *side, state, line string) string {
				switch {
				case state != "rcpt":
				case strings.Contains(line, "nobody"):
					return "550 5.1.1 no such user"
				case strings.Contains(line, "later"):
					return "450 4.2.0 greylisted"
				}
				return ""
			})
			h := newHop(t, server(offer, nil, asked))
			c := New(Config{Dial: h.dial}, hops(1))
			for to, want := range map[queue.ForwardPath]int{"a@example.com": 250, "nobody@example.com": 550, "later@example.com": 450, "b@example.com": 250} {
				if r := c.Verify(t.Context(), "example.com", to); r.Code != want || r.Cause != queue.CauseNone {
					t.Errorf("%s: %+v, want %d", to, r, want)
				}
			}
			if !c.Probe(t.Context(), "example.com") {
				t.Error("a host that answers is not ready")
			}
			if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() {
				t.Errorf("afterwards: %+v", r.Replies)
			}
			if s := c.Stats(); s.Opened != 2 { // Probe looks whether a new one can be had
				t.Errorf("%d connections", s.Opened)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// What is not an answer to RCPT is no verdict on the recipient.
func TestVerifyWithoutVerdict(t *testing.T) {
	for name, answer := range map[string]string{"greeting": "554 5.7.1 go away", "mail": "550 5.7.1 not you", "ehlo": "-"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, server(lockstep, nil, func(s *side, state, _ string) string {
				if state == name && answer == "-" {
					s.conn.Close()
				}
				if state == name {
					return answer
				}
				return ""
			}))
			c := New(Config{Dial: h.dial}, hops(1))
			if r := c.Verify(t.Context(), "example.com", "a@example.com"); r.Cause == queue.CauseNone || r.Permanent() {
				t.Errorf("%s: %+v is a verdict", name, r)
			}
			if name != "mail" && c.Probe(t.Context(), "example.com") {
				t.Errorf("%s: the host counts as ready", name)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}
