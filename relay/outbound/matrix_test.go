package outbound

import (
	"fmt"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"tacet/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	lockstep  = "8BITMIME SIZE"
	pipelines = "PIPELINING 8BITMIME SIZE"
	chunks    = "PIPELINING 8BITMIME SIZE CHUNKING"
)

// states are where a session can be when the peer misbehaves.
var states = []struct {
	name  string
	stage queue.Stage
}{
	{"greeting", queue.StageGreeting},
	{"ehlo", queue.StageEhlo},
	{"mail", queue.StageMail},
	{"rcpt", queue.StageRcpt},
	{"data", queue.StageData},
	{"end", queue.StageEnd},
}

// usual is the answer that a hop gives to a state.
func usual(state string) string {
	switch state {
	case "greeting":
		return "220 hop.example ESMTP"
	case "ehlo":
		return "250-hop.example\r\n250-PIPELINING\r\n250 HELP"
	case "data":
		return "354 go ahead"
	case "mail":
		return "250 2.1.0 ok"
	case "rcpt":
		return "250 2.1.5 ok"
	}
	return "250 2.0.0 Ok: queued as 4XyZ0001"
}

// misdeeds are the ways of a hop to misbehave at a state, and what they come
// to before the end of content was sent.
var misdeeds = []struct {
	name string
	do   func(s *side, state string) string
	want queue.Cause
	code int
}{
	{"silence", func(s *side, _ string) string { s.stall(); return "-" }, queue.CauseTimeout, 0},
	{"close", func(s *side, _ string) string { s.conn.Close(); return "-" }, queue.CauseClosed, 0},
	{"reset", func(s *side, _ string) string { s.reset(); return "-" }, queue.CauseClosed, 0},
	{"421", func(s *side, _ string) string { s.say("421 4.3.2 going down"); return "-" }, queue.CauseNone, 421},
	{"450", func(*side, string) string { return "450 4.7.1 later" }, queue.CauseNone, 450},
	{"550", func(*side, string) string { return "550 5.7.1 never" }, queue.CauseNone, 550},
	{"garbage", func(s *side, _ string) string { s.say("SSH-2.0-OpenSSH_9.9"); s.stall(); return "-" }, queue.CauseProtocol, 0},
	{"half a line", func(s *side, _ string) string { s.conn.Write([]byte("250 2.0.0 o")); s.stall(); return "-" }, queue.CauseTimeout, 0},
	{"half a line and close", func(s *side, _ string) string { s.conn.Write([]byte("250 2.0.0 o")); return "-" }, queue.CauseClosed, 0},
	{"changing code", func(*side, string) string { return "250-2.0.0 ok\r\n550 5.0.0 not" }, queue.CauseProtocol, 0},
	{"endless reply", func(s *side, _ string) string { s.repeat("250-and another thing\r\n"); return "-" }, queue.CauseProtocol, 0},
	{"endless line", func(s *side, _ string) string { s.repeat("250-and-so-on-"); return "-" }, queue.CauseProtocol, 0},
	{"reply ahead", func(_ *side, state string) string { return usual(state) + "\r\n250 2.0.0 another" }, queue.CauseProtocol, 0},
	{"unsolicited 354", func(*side, string) string { return "354 go on" }, queue.CauseProtocol, 0},
}

func TestMisbehaviourAtEachState(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines} {
		for _, state := range states {
			for _, deed := range misdeeds {
				if state.name == "ehlo" && deed.code == 550 || state.name == "data" && deed.name == "unsolicited 354" {
					continue // HELO follows; and that is no misdeed
				}
				t.Run(fmt.Sprintf("%s/%s/%s", offer[:4], state.name, deed.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						h := newHop(t, server(offer, nil, func(s *side, at, _ string) string {
							if at == state.name {
								return deed.do(s, at)
							}
							return ""
						}))
						c := New(Config{Dial: h.dial}, hops(1))
						r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
						c.Close()
						h.wg.Wait()
						checkMisdeed(t, r, state.stage, deed.name, deed.want, deed.code)
						if n := h.dials(); n != 1 {
							t.Errorf("%d connections, want 1", n)
						}
					})
				})
			}
		}
	}
}

func checkMisdeed(t *testing.T, r queue.Reply, stage queue.Stage, deed string, cause queue.Cause, code int) {
	t.Helper()
	delivered := stage == queue.StageEnd && deed == "reply ahead"
	if r.Delivered() != delivered {
		t.Fatalf("delivered: %v, want %v: %+v", r.Delivered(), delivered, r)
	}
	if delivered {
		return
	}
	switch {
	case stage == queue.StageEnd && code == 0:
		cause = queue.CauseAmbiguous
	case stage <= queue.StageMail && code == 421:
		cause = queue.CauseConcurrencyLimit
	case stage <= queue.StageEhlo && code == 550:
		cause = queue.CauseRefused
	}
	if r.Cause != cause || r.Code != code {
		t.Errorf("cause %d, code %d; want %d, %d: %+v", r.Cause, r.Code, cause, code, r)
	}
	if permanent := code == 550 && stage >= queue.StageMail; r.Permanent() != permanent {
		t.Errorf("permanent: %v, want %v", r.Permanent(), permanent)
	}
}

// With BDAT the content goes out with its commands, so that whatever is not an
// answer leaves it open whether the message was taken.
func TestMisbehaviourWithChunks(t *testing.T) {
	for _, state := range []string{"mail", "rcpt", "end"} {
		for _, deed := range misdeeds {
			if state == "rcpt" && deed.name == "reply ahead" {
				continue // not to be told from an answer to BDAT that comes at once
			}
			t.Run(state+"/"+deed.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHop(t, server(chunks, nil, func(s *side, at, _ string) string {
						if at == state {
							return deed.do(s, at)
						}
						return ""
					}))
					c := New(Config{Dial: h.dial}, hops(1))
					r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]
					c.Close()
					h.wg.Wait()
					switch {
					case deed.code == 421 && state == "mail":
						if r.Code != 421 || r.Cause != queue.CauseConcurrencyLimit {
							t.Errorf("got %+v", r)
						}
					case deed.code != 0:
						if r.Code != deed.code || r.Cause != queue.CauseNone {
							t.Errorf("got %+v", r)
						}
					case r.Cause != queue.CauseAmbiguous || r.Delivered():
						t.Errorf("got %+v, want ambiguous", r)
					}
				})
			})
		}
	}
}
