package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"tacet/queue"
	"tacet/relay"
)

// deliver hands one claim to a hop with the given script, and returns the
// result and the hop.
func deliver(t *testing.T, c *queue.Claim, scripts ...script) (relay.Result, *hop) {
	t.Helper()
	h := newHop(t, scripts...)
	client := New(Config{Dial: h.dial, Hostname: "relay.example"}, hops(1))
	r := client.Deliver(t.Context(), c)
	client.Close()
	h.wg.Wait()
	return r, h
}

func TestDeliversByteForByte(t *testing.T) {
	big := strings.Repeat("All work and no play makes Jack a dull boy.\r\n.\r\n", 20_000)
	for _, content := range []string{letter, big, "", "no end of line", ".\r\n", "..\r\n\r\n.\r\n"} {
		for _, offer := range []string{lockstep, pipelines, chunks, lockstep + " CHUNKING"} {
			for _, stream := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					c := claim(content, "a@example.com", "b@example.com")
					if stream {
						c = streamed(c)
					}
					r, h := deliver(t, c, server(offer, nil, nil))
					for _, reply := range r.Replies {
						if !reply.Delivered() || reply.RemoteID != "4XyZ0001" || reply.Enhanced != (queue.Enhanced{2, 0, 0}) {
							t.Fatalf("%s: %+v", offer, reply)
						}
					}
					want := content
					if !strings.Contains(offer, "CHUNKING") && want != "" && !strings.HasSuffix(want, "\r\n") {
						want += "\r\n"
					}
					got := h.taken()
					if len(got) != 1 || got[0].content != want || len(got[0].to) != 2 {
						t.Fatalf("%s, stream %v: %d messages, or another content", offer, stream, len(got))
					}
				})
			}
		}
	}
}

func TestRepliesOfEachRecipient(t *testing.T) {
	answers := map[string]string{
		"b@": "450 4.2.0 greylisted", "c@": "550-5.1.1 no such\r\n550 5.1.1 user", "d@": "251 2.1.5 forwards",
		"e@": "252 2.1.5 will try", "f@": "552 5.2.2 mailbox full",
	}
	for _, offer := range []string{lockstep, pipelines, chunks} {
		synctest.Test(t, func(t *testing.T) {
			r, h := deliver(t, claim(letter, "a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example", "f@x.example"),
				server(offer, nil, func(_ *side, state, line string) string {
					for who, answer := range answers {
						if state == "rcpt" && strings.Contains(line, "<"+who) {
							return answer
						}
					}
					return ""
				}))
			var codes []int
			for _, reply := range r.Replies {
				codes = append(codes, reply.Code)
			}
			if !slices.Equal(codes, []int{250, 450, 550, 250, 250, 452}) {
				t.Errorf("%s: codes %v", offer, codes)
			}
			if r.Replies[2].Text != "no such user" || r.Replies[2].Enhanced != (queue.Enhanced{5, 1, 1}) || r.Replies[2].Stage != queue.StageRcpt {
				t.Errorf("%+v", r.Replies[2])
			}
			if !r.Replies[5].Temporary() || r.Replies[5].Enhanced != (queue.Enhanced{4, 2, 2}) {
				t.Errorf("552 at RCPT is temporary: %+v", r.Replies[5])
			}
			if got := h.taken(); len(got) != 1 || len(got[0].to) != 3 {
				t.Errorf("taken: %d", len(got))
			}
		})
	}
}

// A hop that grants DATA although it refused every recipient gets a lone dot,
// and stays usable.
func TestNobodyLeftAndGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHop(t, server(pipelines, nil, func(_ *side, state, line string) string {
			switch {
			case state == "rcpt" && strings.Contains(line, "nobody"):
				return "550 5.1.1 unknown"
			case state == "nobody":
				return "354 fine with me"
			case state == "end":
				return ""
			}
			return ""
		}))
		c := New(Config{Dial: h.dial}, hops(1))
		if r := c.Deliver(t.Context(), claim(letter, "nobody@example.com")).Replies[0]; r.Code != 550 || r.Stage != queue.StageRcpt {
			t.Errorf("%+v", r)
		}
		if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; !r.Delivered() {
			t.Errorf("%+v", r)
		}
		c.Close()
		h.wg.Wait()
		if h.dials() != 1 || !slices.Contains(h.told(), "RSET") {
			t.Errorf("%d connections, told %q", h.dials(), h.told())
		}
		if got := h.taken(); len(got) != 2 || got[0].content != "" || got[1].content != letter {
			t.Errorf("taken: %q", got)
		}
	})
}

func TestAnySuccessAfterTheDotCounts(t *testing.T) {
	for _, answer := range []string{"250", "200 ok", "251 2.0.0 ok", "299 ok", "250 2.0.0 taken\r\n421 4.3.2 and good-bye"} {
		for _, offer := range []string{pipelines, chunks} {
			synctest.Test(t, func(t *testing.T) {
				r, _ := deliver(t, claim(letter, "a@example.com"), server(offer, nil, func(_ *side, state, _ string) string {
					if state == "end" {
						return answer
					}
					return ""
				}))
				if !r.Replies[0].Delivered() {
					t.Errorf("%q: %+v", answer, r.Replies[0])
				}
			})
		}
	}
}

func TestLimitsOfAPeer(t *testing.T) {
	to := []queue.ForwardPath{"a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example"}
	tests := []struct {
		name, offer     string
		hook            hook
		messages, dials int
	}{
		{"RCPTMAX", pipelines + " Limits_RCPTMAX=2", nil, 3, 1},
		{"RCPTMAX and MAILMAX", chunks + " LIMITS_MAILMAX=2_RCPTMAX=2", nil, 3, 2},
		{"452", pipelines, tooManyAfter(2), 3, 1},
		{"452 in lockstep", lockstep, tooManyAfter(2), 3, 1},
		{"452 and chunks", chunks, tooManyAfter(2), 3, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, h := deliver(t, claim(letter, to...), server(test.offer, nil, test.hook))
				for i, reply := range r.Replies {
					if !reply.Delivered() {
						t.Errorf("%d: %+v", i, reply)
					}
				}
				if len(h.taken()) != test.messages || h.dials() != test.dials {
					t.Errorf("%d messages over %d connections", len(h.taken()), h.dials())
				}
			})
		})
	}
}

func TestMessagesPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHop(t, server(chunks, nil, nil))
		r := hops(1)
		r.route.MaxMessages = 3
		c := New(Config{Dial: h.dial}, r)
		for range 10 {
			if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; !r.Delivered() {
				t.Errorf("%+v", r)
			}
		}
		c.Close()
		h.wg.Wait()
		if h.dials() != 4 {
			t.Errorf("10 messages over %d connections, want 4", h.dials())
		}
	})
}

func tooManyAfter(n int) hook {
	count := 0
	return func(_ *side, state, _ string) string {
		switch state {
		case "mail":
			count = 0
		case "rcpt":
			if count++; count > n {
				return "452 4.5.3 too many recipients"
			}
		}
		return ""
	}
}

func TestWalksTheHops(t *testing.T) {
	refuse := func(state, answer string) script {
		return server(pipelines, nil, func(_ *side, at, _ string) string {
			if at == state || state == "ehlo" && at == "helo" {
				return answer
			}
			return ""
		})
	}
	good := server(pipelines, nil, nil)
	tests := []struct {
		name    string
		scripts []script
		dials   int
		code    int
	}{
		{"banner 5yz", []script{refuse("greeting", "554 no"), good}, 2, 250},
		{"banner 421", []script{refuse("greeting", "421 no"), good}, 2, 250},
		{"EHLO and HELO 5yz", []script{refuse("ehlo", "550 no"), good}, 2, 250},
		{"EHLO 4yz", []script{refuse("ehlo", "450 no"), good}, 2, 250},
		{"MAIL 4yz", []script{refuse("mail", "451 no"), good}, 2, 250},
		{"MAIL 5yz", []script{refuse("mail", "550 no"), good}, 1, 550},
		{"RCPT 4yz", []script{refuse("rcpt", "450 no"), good}, 1, 450},
		{"RCPT 5yz", []script{refuse("rcpt", "550 no"), good}, 1, 550},
		{"RCPT 421", []script{refuse("rcpt", "421 no"), good}, 2, 250},
		{"DATA 4yz", []script{refuse("data", "451 no"), good}, 1, 451},
		{"dot 4yz", []script{refuse("end", "451 no"), good}, 1, 451},
		{"dot 5yz", []script{refuse("end", "554 no"), good}, 1, 554},
		{"silence", []script{func(s *side) { s.stall() }, good}, 2, 250},
		{"all 5yz", []script{refuse("greeting", "554 no")}, 3, 554},
		{"all 521", []script{refuse("greeting", "521 no mail here")}, 3, 521},
		{"521 and 554", []script{refuse("greeting", "521 no mail here"), refuse("greeting", "554 no"), refuse("greeting", "521 no mail here")}, 3, 554},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHop(t, test.scripts...)
				c := New(Config{Dial: h.dial}, hops(3))
				r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
				c.Close()
				h.wg.Wait()
				if r.Replies[0].Code != test.code || h.dials() != test.dials {
					t.Errorf("%d connections: %+v", h.dials(), r.Replies[0])
				}
				if test.name == "521 and 554" && r.Replies[0].Permanent() {
					t.Error("a host that may take mail later is not waited for")
				}
				if test.name == "all 5yz" && r.Replies[0].Permanent() {
					t.Error("a banner refuses no recipient")
				}
				if test.name == "all 521" && !r.Replies[0].Permanent() {
					t.Error("hosts that take no mail at all are waited for")
				}
				if want := netip.AddrFrom4([4]byte{192, 0, 2, byte(test.dials)}); r.Host != want {
					t.Errorf("host %v, want %v", r.Host, want)
				}
			})
		})
	}
}

func TestConnectionsThatFail(t *testing.T) {
	tests := []struct {
		errs  []error
		cause queue.Cause
	}{
		{[]error{syscall.ECONNREFUSED}, queue.CauseRefused},
		{[]error{syscall.EHOSTUNREACH, syscall.ENETUNREACH}, queue.CauseUnreachable},
		{[]error{os.ErrDeadlineExceeded}, queue.CauseTimeout},
		{[]error{syscall.EMFILE}, queue.CauseLocal},
		{[]error{syscall.ECONNREFUSED, os.ErrDeadlineExceeded}, queue.CauseAllHostsFailed},
	}
	for _, test := range tests {
		n := 0
		c := New(Config{Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
			n++
			return nil, &net.OpError{Op: "dial", Err: test.errs[(n-1)%len(test.errs)]}
		}}, hops(20))
		r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
		c.Close()
		if r.Replies[0].Cause != test.cause || !r.Replies[0].Temporary() || r.Replies[0].Stage != queue.StageConnect {
			t.Errorf("%v: %+v", test.errs, r.Replies[0])
		}
		if n != 5 {
			t.Errorf("%d addresses tried", n)
		}
		if r.Host.IsValid() {
			t.Error("no host was connected to")
		}
	}
}

func TestForbiddenAddressesAreNotDialed(t *testing.T) {
	h := newHop(t, server(pipelines, nil, nil))
	forbidden := 2
	c := New(Config{Dial: h.dial, Forbidden: func(d queue.Destination, a netip.AddrPort) bool {
		return d == dest && int(a.Addr().As4()[3]) <= forbidden
	}}, hops(3))
	if r := c.Deliver(t.Context(), claim(letter, "a@example.com")); !r.Replies[0].Delivered() || r.Host.As4()[3] != 3 {
		t.Errorf("%+v", r)
	}
	c.CloseIdle()
	forbidden = 9
	if r := c.Deliver(t.Context(), claim(letter, "a@example.com")).Replies[0]; r.Cause != queue.CauseAddressForbidden || !r.Permanent() {
		t.Errorf("%+v", r)
	}
	c.Close()
	h.wg.Wait()
	if h.dials() != 1 {
		t.Errorf("%d connections", h.dials())
	}
}

func TestRouteErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		want queue.Cause
	}{
		{&relay.RouteError{Cause: queue.CauseNullMX}, queue.CauseNullMX},
		{&relay.RouteError{Cause: queue.CauseDNSTemporary}, queue.CauseDNSTemporary},
		{errors.New("strange"), queue.CauseLocal},
	} {
		c := New(Config{}, &routeTo{err: test.err})
		r := c.Deliver(t.Context(), claim(letter, "a@example.com", "b@example.com"))
		c.Close()
		for _, reply := range r.Replies {
			if reply.Cause != test.want || reply.Stage != queue.StageRoute {
				t.Errorf("%v: %+v", test.err, reply)
			}
		}
	}
}
