package outbound

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

func TestReusesConnections(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines, chunks} {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, server(offer, nil, nil))
			where := hops(1)
			c := New(Config{Dial: h.dial, MaxMessages: 10}, where)
			for range 25 {
				if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() || !r.Host.IsValid() {
					t.Fatalf("%+v", r)
				}
			}
			if s := c.Stats(); s.Opened != 3 || s.Reused != 22 || where.asked != 3 {
				t.Errorf("%+v, the resolver was asked %d times", s, where.asked)
			}
			time.Sleep(time.Minute) // the kept one goes
			if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() || h.dials() != 4 {
				t.Errorf("%+v over connection %d", r, h.dials())
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// Whatever a hop does to a connection between two messages, the second one is
// delivered once, in the same attempt.
func TestKeptConnectionThatIsGone(t *testing.T) {
	first := true
	onMail := func(answer string) hook {
		return func(s *side, state, _ string) string {
			if state == "mail" {
				s.mails++
				if s.mails > 1 && answer == "-" {
					s.conn.Close()
					return "-"
				}
				if s.mails > 1 {
					return answer
				}
			}
			return ""
		}
	}
	afterEnd := func(do func(s *side)) hook {
		return func(s *side, state, _ string) string {
			if state == "end" && first {
				first = false
				do(s)
				return "-"
			}
			return ""
		}
	}
	for name, h := range map[string]hook{
		"421 at MAIL":   onMail("421 4.7.0 too many messages"),
		"503 at MAIL":   onMail("503 5.5.1 nested"),
		"close at MAIL": onMail("-"),
		"close":         afterEnd(func(s *side) { s.say("250 2.0.0 taken") }),
		"reset":         afterEnd(func(s *side) { s.say("250 2.0.0 taken"); s.reset() }),
		"421 and close": afterEnd(func(s *side) { s.say("250 2.0.0 taken"); s.say("421 4.4.2 idle") }),
		"unsolicited":   afterEnd(func(s *side) { s.say("250 2.0.0 taken"); s.say("250 2.0.0 taken"); s.stall() }),
	} {
		for _, offer := range []string{lockstep, pipelines} {
			t.Run(name+"/"+offer, func(t *testing.T) {
				first = true
				hop := newHop(t, server(offer, nil, h))
				c := New(Config{Dial: hop.dialTCP}, hops(1))
				for i := range 2 {
					r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
					if !r.Replies[0].Delivered() {
						t.Fatalf("message %d: %+v", i, r.Replies[0])
					}
					for deadline := time.Now().Add(5 * time.Second); name == "unsolicited" && i == 0 && !idleReadable(c); {
						if time.Now().After(deadline) {
							t.Fatal("the second reply has not come")
						}
					}
				}
				c.Close()
				hop.wg.Wait()
				if len(hop.taken()) != 2 || hop.dials() != 2 {
					t.Errorf("%d messages over %d connections", len(hop.taken()), hop.dials())
				}
			})
		}
	}
}

// idleReadable tells whether something has come on the kept connection, or none is kept.
func idleReadable(c *Client) bool {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, s := range c.pool.idle[dest] {
		return s.probe.readable()
	}
	return true
}

// A slow answer on a kept connection is no reason to send again.
func TestKeptConnectionThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHop(t, server(chunks, nil, func(s *side, state, _ string) string {
			if state == "end" {
				if s.mails++; s.mails > 1 {
					s.stall()
					return "-"
				}
			}
			return ""
		}))
		c := New(Config{Dial: h.dial}, hops(2))
		c.Deliver(t.Context(), claim(letter, "a@example.com"))
		r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
		c.Close()
		h.wg.Wait()
		if r.Replies[0].Cause != queue.CauseAmbiguous || h.dials() != 1 {
			t.Errorf("%d connections: %+v", h.dials(), r.Replies[0])
		}
	})
}

// On a connection that rested, nothing may be left in doubt by its end: the
// chunk waits for the answers.
func TestRestedConnectionHoldsTheChunkBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHop(t, server(chunks, nil, func(s *side, state, _ string) string {
			if state == "mail" {
				if s.mails++; s.mails > 1 {
					return "-"
				}
			}
			return ""
		}))
		c := New(Config{Dial: h.dial}, hops(1))
		c.Deliver(t.Context(), claim(letter, "a@example.com"))
		time.Sleep(2 * time.Second)
		if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() {
			t.Errorf("%+v", r.Replies[0])
		}
		c.Close()
		h.wg.Wait()
		if h.dials() != 2 || len(h.taken()) != 2 {
			t.Errorf("%d messages over %d connections", len(h.taken()), h.dials())
		}
	})
}

// A peer that read a refused chunk as commands would find a recipient in this one.
func TestContentLikeCommandsWaitsForARecipient(t *testing.T) {
	for content, early := range map[string]bool{
		letter:                               true,
		"To: a\r\n\r\nrcpt to us: yes\r\n":   true,
		letter + "Rcpt  To :<v@example.com>": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			_, h := deliver(t, claim(content, "nobody@example.com"), server(chunks, nil, func(_ *side, state, _ string) string {
				if state == "rcpt" {
					return "550 5.1.1 unknown"
				}
				return ""
			}))
			sent := strings.Contains(strings.Join(h.told(), "\n"), "BDAT")
			if sent != early {
				t.Errorf("%q: chunk sent before the answer: %v", content, sent)
			}
		})
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHop(t, server(pipelines, nil, nil))
		c := New(Config{Dial: h.dial, MaxIdleConnections: 3}, hops(1))
		for i := range 10 {
			m := claim(letter, "a@example.com")
			m.Destination = queue.Destination("d" + string(rune('0'+i)))
			c.Deliver(t.Context(), m)
		}
		if n := c.pool.count; n != 3 || len(c.pool.idle) != 3 || len(c.pool.live) != 3 {
			t.Errorf("%d kept, %d destinations, %d open", n, len(c.pool.idle), len(c.pool.live))
		}
		c.CloseIdle()
		if n := c.pool.count; n != 0 || len(c.pool.idle) != 0 || len(c.pool.live) != 0 {
			t.Errorf("%d kept, %d destinations, %d open", n, len(c.pool.idle), len(c.pool.live))
		}
		c.Close()
		h.wg.Wait()
	})
}

// counting counts the calls that become system calls.
type counting struct {
	net.Conn
	reads, writes *int
}

func (c counting) Read(b []byte) (int, error)  { *c.reads++; return c.Conn.Read(b) }
func (c counting) Write(b []byte) (int, error) { *c.writes++; return c.Conn.Write(b) }

// Over a kept connection a small message is two writes and two reads, or one of
// each with CHUNKING.
func TestFewSystemCalls(t *testing.T) {
	for offer, want := range map[string]int{pipelines: 2, chunks: 1} {
		synctest.Test(t, func(t *testing.T) {
			reads, writes := 0, 0
			h := newHop(t, func(s *side) {
				gathered := &gathering{Conn: s.conn, in: s.in}
				s.conn = gathered
				server(offer, nil, nil)(s)
			})
			c := New(Config{Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
				conn, err := h.dial(ctx, a)
				return counting{conn, &reads, &writes}, err
			}}, hops(1))
			c.Deliver(t.Context(), claim(letter, "a@example.com"))
			reads, writes = 0, 0
			c.Deliver(t.Context(), claim(letter, "a@example.com", "b@example.com"))
			if reads != want || writes != want {
				t.Errorf("%s: %d reads, %d writes", offer, reads, writes)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// gathering keeps replies until all commands that are here are answered, as servers do.
type gathering struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

func (g *gathering) Write(b []byte) (int, error) {
	g.out = append(g.out, b...)
	if g.in.Buffered() > 0 {
		return len(b), nil
	}
	_, err := g.Conn.Write(g.out)
	g.out = nil
	return len(b), err
}

// A reply that nobody asked for, on a connection that waits, is never taken
// for an answer to the next message.
func TestStaleReplyIsNoAnswer(t *testing.T) {
	ca := newAuthority(t)
	for _, offer := range []string{lockstep, pipelines, chunks, chunks + " STARTTLS"} {
		t.Run(offer, func(t *testing.T) {
			waits := make(chan struct{})
			h := newHop(t,
				server(offer, ca.config(t, "a.example"), func(s *side, state, _ string) string {
					if state != "end" {
						return ""
					}
					s.say("250 2.0.0 taken")
					<-waits
					s.say("250 2.0.0 taken")
					s.stall()
					return "-"
				}),
				server(offer, ca.config(t, "a.example"), func(_ *side, state, _ string) string {
					if state == "end" {
						return "550 5.7.1 not this one"
					}
					return ""
				}))
			c := New(Config{Dial: h.dialTCP, KeepAlive: time.Minute}, hops(1))
			c.Deliver(t.Context(), claim(letter, "a@example.com"))
			if len(c.pool.idle) != 1 {
				t.Fatal("the connection is not kept")
			}
			close(waits)
			for deadline := time.Now().Add(5 * time.Second); !idleReadable(c); {
				if time.Now().After(deadline) {
					t.Fatal("the second reply has not come")
				}
			}
			if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; r.Code != 550 {
				t.Errorf("%+v", r)
			}
			c.Close()
			h.wg.Wait()
		})
	}
}

// A kept connection whose peer doesn't take RSET is given up for a fresh one.
func TestRefusedRSET(t *testing.T) {
	for _, offer := range []string{lockstep, pipelines} {
		synctest.Test(t, func(t *testing.T) {
			h := newHop(t, server(offer, nil, func(_ *side, state, line string) string {
				switch {
				case state == "rset":
					return "502 5.5.1 not here"
				case strings.Contains(line, "nobody"):
					return "550 5.1.1 unknown"
				}
				return ""
			}))
			c := New(Config{Dial: h.dial}, hops(1))
			c.Deliver(t.Context(), claim(letter, "nobody@example.com"))
			if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; !r.Delivered() || h.dials() != 2 {
				t.Errorf("%+v over %d connections", r, h.dials())
			}
			c.Close()
			h.wg.Wait()
		})
	}
}
