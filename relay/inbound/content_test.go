package inbound_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// TestContent sends content by DATA and looks at the reply, at what the relay
// took, and that the session goes on.
func TestContent(t *testing.T) {
	for _, test := range []struct{ name, send, reply, content string }{
		{"plain", "a\r\nb\r\n.\r\n", "250", "a\r\nb\r\n"},
		{"empty", ".\r\n", "250", ""},
		{"dots", "..\r\n...\r\n..a\r\n.a\r\n.\r\n", "250", ".\r\n..\r\n.a\r\na\r\n"},
		{"ending in CR CR LF", "a\r\r\n.\r\n", "554 5.6.0", ""},
		{"dot, CR CR LF", "a\r\n.\r\r\n.\r\n", "554 5.6.0", ""},
		{"dot, CR, letter", "a\r\n.\rX\r\n.\r\n", "554 5.6.0", ""},
		{"bare LF", "a\nb\r\n.\r\n", "554 5.6.0", ""},
		{"bare CR", "a\rb\r\n.\r\n", "554 5.6.0", ""},
		{"NUL", "a\x00b\r\n.\r\n", "554 5.6.0", ""},
		{"LF dot CRLF", "a\n.\r\nMAIL FROM:<evil@example.org>\r\nb\r\n.\r\n", "554 5.6.0", ""},
		{"CRLF dot LF", "a\r\n.\nMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"LF dot LF", "a\n.\nMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"CR dot CR", "a\r.\rMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"CR dot CRLF", "a\r.\r\nMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"CRLF dot CR", "a\r\n.\rMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"CRLF NUL dot CRLF", "a\r\n\x00.\r\nMAIL FROM:<evil@example.org>\r\n.\r\n", "554 5.6.0", ""},
		{"long line", strings.Repeat("x", 900) + ".\r\n.\r\n", "250", strings.Repeat("x", 900) + ".\r\n"},
		{"exactly the limit", strings.Repeat("x", 998) + "\r\n.\r\n", "250", strings.Repeat("x", 998) + "\r\n"},
		{"one over the limit", strings.Repeat("x", 999) + "\r\n.\r\n", "552 5.3.4", ""},
		{"stuffing does not count", "." + strings.Repeat(".", 998) + "\r\n.\r\n", "250", strings.Repeat(".", 998) + "\r\n"},
		{"too large, with commands in it", strings.Repeat("x\r\n", 1000) + ".\nMAIL FROM:<evil@example.org>\r\n.\r\n", "552 5.3.4", ""},
	} {
		for _, cut := range []int{0, 1, 7} { // written at once, or in pieces
			t.Run(fmt.Sprint(test.name, "/", cut), func(t *testing.T) {
				w := start(t, withLimits(inbound.Limits{MaxMessageSize: 1000}))
				p := w.ready()
				p.ask("DATA", "354")
				go func() {
					if cut == 0 {
						p.send(test.send + "NOOP\r\n")
						return
					}
					for piece := range slices.Chunk([]byte(test.send+"NOOP\r\n"), cut) {
						p.send(string(piece))
					}
				}()
				p.expect(test.reply)
				p.expect("250 2.0.0 OK")
				taken := w.relay.taken()
				if test.reply == "250" {
					if len(taken) != 1 || taken[0].content != test.content {
						t.Fatalf("taken is %+v, want %q", taken, test.content)
					}
				} else if len(taken) != 0 {
					t.Fatalf("taken is %+v, want nothing", taken)
				}
				p.ask("DATA", "503")
			})
		}
	}
}

func TestChunks(t *testing.T) {
	const again = "MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n"
	for _, test := range []struct{ name, send, want, content string }{
		{"one", "BDAT 6 LAST\r\nabcd\r\n", "250", "abcd\r\n"},
		{"several", "BDAT 3\r\na\r\nBDAT 4\r\nbc\r\nBDAT 3 LAST\r\nd\r\n", "250 250 250", "a\r\nbc\r\nd\r\n"},
		{"CR LF over two chunks", "BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", "250 250", "a\r\nb\r\n"},
		{"no line end at the end", "BDAT 1 LAST\r\nx", "250", "x\r\n"},
		{"empty last", "BDAT 3\r\na\r\nBDAT 0 LAST\r\n", "250 250", "a\r\n"},
		{"empty message", "BDAT 0 LAST\r\n", "250", ""},
		{"dots stay", "BDAT 6 LAST\r\n.\r\n.\r\n", "250", ".\r\n.\r\n"},
		{"long line", "BDAT 900 LAST\r\n" + strings.Repeat("x", 898) + "\r\n", "250", strings.Repeat("x", 898) + "\r\n"},
		{"exactly the limit", "BDAT 600\r\n" + strings.Repeat("x", 600) + "BDAT 400 LAST\r\n" + strings.Repeat("x", 398) + "\r\n", "250 250", strings.Repeat("x", 998) + "\r\n"},
		{"over the limit", "BDAT 600\r\n" + strings.Repeat("x", 600) + "BDAT 401 LAST\r\n" + strings.Repeat("NOOP\r\n", 66) + "12345" + "NOOP\r\n", "250 552 250", "-"},
		{"over the limit at once, then more chunks", "BDAT 1001\r\n" + strings.Repeat("x", 1001) + "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "552 503 503 250", "-"},
		{"bare LF", "BDAT 4\r\na\nb\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "554 503 250", "-"},
		{"bare LF begins the second chunk", "BDAT 1\r\naBDAT 2 LAST\r\n\nb", "250 554", "-"},
		{"NUL", "BDAT 3 LAST\r\na\x00b", "554", "-"},
		{"CR at the end", "BDAT 2 LAST\r\na\r", "554", "-"},
		{"CR before the next chunk", "BDAT 2\r\na\rBDAT 1 LAST\r\nb", "250 554", "-"},
		{"RSET in between", "BDAT 3\r\na\r\nRSET\r\n" + again + "BDAT 3 LAST\r\nb\r\n", "250 250 250 250 250", "b\r\n"},
		{"EHLO in between", "BDAT 3\r\na\r\nEHLO x\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 250 503 250", "-"},
		{"QUIT in between", "BDAT 3\r\na\r\nQUIT\r\n", "250 221 end", "-"},
		{"NOOP in between", "BDAT 3\r\na\r\nNOOP\r\nVRFY x\r\nBDAT 3 LAST\r\nb\r\n", "250 250 252 250", "a\r\nb\r\n"},
		{"DATA after BDAT", "BDAT 3\r\na\r\nDATA\r\nBDAT 3 LAST\r\nb\r\n", "250 503 250", "a\r\nb\r\n"},
		{"MAIL and RCPT after BDAT", "BDAT 3\r\na\r\n" + again + "BDAT 0 LAST\r\n", "250 503 503 250", "a\r\n"},
		{"STARTTLS and AUTH after BDAT", "BDAT 3\r\na\r\nSTARTTLS\r\nAUTH PLAIN\r\nBDAT 0 LAST\r\n", "250 503 503 250", "a\r\n"},
		{"size missing", "BDAT\r\nQUIT\r\n", "501 end", "-"},
		{"size no number", "BDAT x\r\nQUIT\r\n", "501 end", "-"},
		{"size signed", "BDAT +6\r\nQUIT\r\n", "501 end", "-"},
		{"size of more than 63 bits", "BDAT 9223372036854775808\r\nQUIT\r\n", "501 end", "-"},
		{"unknown word", "BDAT 6 FIRST\r\nQUIT\r\n", "501 end", "-"},
		{"bad size in between", "BDAT 3\r\na\r\nBDAT -1\r\nQUIT\r\n", "250 501 end", "-"},
		{"without recipients", "RSET\r\nMAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 250 554 250", "-"},
		{"without transaction", "RSET\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 503 503 250", "-"},
		{"tiny chunks", strings.Repeat("BDAT 1\r\nx", 200), strings.Repeat("250 ", 99) + "250 421 end", "-"},
		{"null chunks", strings.Repeat("BDAT 0\r\n", 200), strings.Repeat("250 ", 99) + "250 421 end", "-"},
	} {
		for _, cut := range []int{0, 1} {
			t.Run(fmt.Sprint(test.name, "/", cut), func(t *testing.T) {
				w := start(t, withLimits(inbound.Limits{MaxMessageSize: 1000}))
				p := w.ready()
				go func() {
					if cut == 0 {
						p.send(test.send)
						return
					}
					for piece := range slices.Chunk([]byte(test.send), cut) {
						p.send(string(piece))
					}
				}()
				compare(t, p, test.want)
				taken := w.relay.taken()
				switch {
				case test.content == "-":
					if len(taken) != 0 {
						t.Fatalf("taken is %+v, want nothing", taken)
					}
				case len(taken) != 1 || taken[0].content != test.content:
					t.Fatalf("taken is %+v, want %q", taken, test.content)
				}
			})
		}
	}
}

// TestTruncated ends the connection within the content: that is no message.
func TestTruncated(t *testing.T) {
	for _, send := range []string{
		"DATA\r\na\r\n", "DATA\r\na\r\n.", "DATA\r\na\r\n.\r", "DATA\r\n",
		"BDAT 10 LAST\r\nabc\r\n", "BDAT 10 LAST\r\n", "BDAT 3\r\na\r\n", "BDAT 3\r\na\r\nBDAT 3 LAST\r\n", "BDAT 3\r\na\r\nBDAT 0 LA",
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%q/%v", send, secure), func(t *testing.T) {
				w := start(t, withTLS)
				var p *peer
				if secure {
					p, _ = w.secure(false)
					p.send("MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n")
					p.expect("250")
					p.expect("250")
				} else {
					p = w.ready()
				}
				p.send(send)
				_ = p.conn.Close() // on TLS with close_notify
				w.stop()
				if taken := w.relay.taken(); len(taken) != 0 {
					t.Fatalf("taken is %+v", taken)
				}
				if len(w.relay.errors) != 1 {
					t.Fatalf("the relay saw %v, want one error", w.relay.errors)
				}
			})
		}
	}
}

// TestRelayDoesNotRead answers before the content was read: the rest is never
// read as commands.
func TestRelayDoesNotRead(t *testing.T) {
	refuse := withRelay(func(r *fakeRelay) {
		r.accept = func(_ context.Context, _ *queue.Envelope, content io.Reader) error {
			if _, err := io.ReadFull(content, make([]byte, 2)); err != nil {
				return err
			}
			return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Text: "No", Class: relay.ClassContent}
		}
	})
	body := "Subject: x\r\n" + strings.Repeat("MAIL FROM:<evil@example.org>\r\n", 5000)
	t.Run("DATA", func(t *testing.T) {
		p := start(t, refuse).ready()
		p.ask("DATA", "354")
		p.send(body + ".\r\nNOOP\r\n")
		p.expect("550 5.7.1 No")
		p.expect("250 2.0.0 OK")
	})
	t.Run("BDAT", func(t *testing.T) {
		p := start(t, refuse).ready()
		p.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", len(body), body))
		p.expect("550 5.7.1 No")
		p.expect("503")
		p.expect("250 2.0.0 OK")
	})
	t.Run("accepted unread", func(t *testing.T) {
		w := start(t)
		lazy := lazyRelay{w.relay}
		w2 := start(t, func(c *inbound.Config, _ *inbound.Listener, _ *fakeRelay) { c.Relay = lazy })
		p := w2.ready()
		p.ask("DATA", "354")
		p.send("x\r\n.\r\n")
		p.expect("451 4.3.0")
		if !slices.Equal(w2.events.seen, []inbound.Trouble{inbound.TroubleIncomplete}) {
			t.Errorf("trouble is %v", w2.events.seen)
		}
	})
}

// lazyRelay accepts without reading.
type lazyRelay struct{ *fakeRelay }

func (lazyRelay) Accept(context.Context, *queue.Envelope, io.Reader, relay.Session) (queue.ID, error) {
	return queue.ID{1}, nil
}
