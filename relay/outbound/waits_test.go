package outbound

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

func TestStops(t *testing.T) {
	t.Run("before the end of content", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, server(pipelines, nil, func(s *side, state, _ string) string {
				if state == "data" {
					s.stall()
					return "-"
				}
				return ""
			}))
			c := New(Config{Dial: h.dial}, hops(2))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begun := time.Now()
			r := c.Deliver(ctx, claim(letter, "a@example.com")).Replies[0]
			if r.Cause != queue.CauseShutdown || time.Since(begun) != time.Second || h.dials() != 1 {
				t.Errorf("after %v: %+v", time.Since(begun), r)
			}
			c.Close()
			h.wg.Wait()
		})
	})
	after := func(t *testing.T, offer string, end func(*Client), want func(queue.Reply) bool) {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, server(offer, nil, func(_ *side, state, _ string) string {
				if state == "end" {
					time.Sleep(time.Minute)
				}
				return ""
			}))
			c := New(Config{Dial: h.dial}, hops(2))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			time.AfterFunc(30*time.Second, func() { end(c) })
			if r := c.Deliver(ctx, claim(letter, "a@example.com")).Replies[0]; !want(r) {
				t.Errorf("%+v", r)
			}
			c.Close()
			h.wg.Wait()
		})
	}
	for _, offer := range []string{pipelines, chunks} {
		t.Run("after the end of content "+offer, func(t *testing.T) {
			after(t, offer, func(*Client) {}, queue.Reply.Delivered)
		})
		t.Run("closed after the end of content "+offer, func(t *testing.T) {
			after(t, offer, (*Client).Close, func(r queue.Reply) bool { return r.Cause == queue.CauseAmbiguous })
		})
	}
	t.Run("closed before", func(t *testing.T) {
		c := New(Config{}, hops(1))
		c.Close()
		if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; r.Cause != queue.CauseShutdown {
			t.Errorf("%+v", r)
		}
	})
}

func TestTimesOutAsConfigured(t *testing.T) {
	limits := Timeouts{}.withDefaults()
	for state, want := range map[string]time.Duration{
		"greeting": limits.Greeting, "ehlo": limits.Command, "mail": limits.Command,
		"data": limits.DataStart, "end": limits.DataEnd,
	} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				deliver(t, claim(letter, "a@example.com"), server(pipelines, nil, func(s *side, at, _ string) string {
					if at == state {
						s.stall()
						return "-"
					}
					return ""
				}))
				if took := time.Since(begun); took != want {
					t.Errorf("took %v, want %v", took, want)
				}
			})
		})
	}
}

// One octet a second is an answer that does not come.
func TestDrippingReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		r, _ := deliver(t, claim(letter, "a@example.com"), server(pipelines, nil, func(s *side, at, _ string) string {
			if at != "mail" {
				return ""
			}
			for {
				if _, err := s.conn.Write([]byte("2")); err != nil {
					return "-"
				}
				time.Sleep(time.Second)
			}
		}))
		if took := time.Since(begun); took > 6*time.Minute || !r.Replies[0].Temporary() {
			t.Errorf("after %v: %+v", took, r.Replies[0])
		}
	})
}

// A peer that stops reading is given up on within one block's time.
func TestZeroWindow(t *testing.T) {
	for _, offer := range []string{pipelines, chunks} {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, func(s *side) {
				server(offer, nil, func(s *side, at, _ string) string {
					if at == "data" || at == "rcpt" && offer == chunks {
						s.say(usual(at))
						time.Sleep(time.Hour)
						return "-"
					}
					return ""
				})(s)
			})
			c := New(Config{Dial: h.dial}, hops(1))
			begun := time.Now()
			r := c.Deliver(t.Context(), streamed(claim(strings.Repeat(letter, 10_000), "a@example.com"))).Replies[0]
			if r.Cause != queue.CauseTimeout || r.Stage != queue.StageContent || time.Since(begun) != 3*time.Minute {
				t.Errorf("after %v: %+v", time.Since(begun), r)
			}
			if n := len(c.pool.live); n != 0 {
				t.Errorf("%d connections are left", n)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// A peer that refuses while the content is under way is heard, and one that
// says yes too early is not believed.
func TestAnswerDuringContent(t *testing.T) {
	for answer, want := range map[string]queue.Reply{
		"552 5.3.4 too big":   {Code: 552, Enhanced: queue.Enhanced{5, 3, 4}, Text: "too big", Stage: queue.StageContent},
		"421 4.3.2 stopping":  {Code: 421, Enhanced: queue.Enhanced{4, 3, 2}, Text: "stopping", Stage: queue.StageContent},
		"250 2.0.0 queued":    {Cause: queue.CauseProtocol, Stage: queue.StageContent},
		"354 and another one": {Cause: queue.CauseProtocol, Stage: queue.StageContent},
	} {
		t.Run(answer, func(t *testing.T) {
			h := newHop(t, server(pipelines, nil, func(s *side, at, _ string) string {
				if at != "data" {
					return ""
				}
				s.say("354 go")
				s.in.Peek(1)
				s.say(answer)
				s.stall()
				return "-"
			}))
			c := New(Config{Dial: h.dialTCP}, hops(1))
			m := claim("", "a@example.com")
			m.Content.Head = nil
			m.Content.Size = 1 << 30
			m.Content.Open = func() (io.ReadCloser, error) { return io.NopCloser(crlfReader{}), nil }
			if r := c.Deliver(t.Context(), m).Replies[0]; r != want {
				t.Errorf("%+v", r)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// crlfReader is content without end.
type crlfReader struct{}

func (crlfReader) Read(p []byte) (int, error) {
	n := 0
	for n+2 <= len(p) {
		n += copy(p[n:], "\r\n")
	}
	if n == 0 {
		return copy(p, "x"), nil
	}
	return n, nil
}

// Slow answers to many recipients have an end.
func TestSlowAnswersToAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var to []queue.ForwardPath
		for range 100 {
			to = append(to, "a@example.com")
		}
		h := newHop(t, server(pipelines, nil, func(_ *side, at, _ string) string {
			if at == "rcpt" {
				time.Sleep(4 * time.Minute)
			}
			return ""
		}))
		c := New(Config{Dial: h.dial}, hops(1))
		begun := time.Now()
		r := c.Deliver(t.Context(), claim(letter, to...))
		if took := time.Since(begun); took != 20*time.Minute || r.Replies[0].Cause != queue.CauseTimeout {
			t.Errorf("after %v: %+v", took, r.Replies[0])
		}
		c.Close()
		h.wg.Wait()
	})
}
