package inbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay/inbound"
)

// took is how long f takes on the bubble's clock.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// near tells whether a deadline of want was kept; it may come a thirty-second early.
func near(got, want time.Duration) bool { return got <= want+time.Second && got >= want-want/16 }

func TestIdleTimeout(t *testing.T) {
	for name, send := range map[string]string{
		"nothing":         "",
		"half a line":     "NOO",
		"after a command": "EHLO x\r\nNOOP\r\n",
		"in transaction":  "EHLO x\r\nMAIL FROM:<s@example.org>\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				p := w.dial()
				p.send(send)
				var last string
				d := took(func() {
					for reply := p.read(); reply != ""; reply = p.read() {
						last = reply
					}
				})
				if !near(d, 5*time.Minute) || !strings.HasPrefix(last, "421 4.4.2") {
					t.Errorf("ended after %v with %q", d, last)
				}
				w.stop()
			})
		})
	}
}

// TestDrippedLine sends an octet now and then: the time is for the whole line.
func TestDrippedLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.hello()
		go func() {
			for range 100 {
				p.send("N")
				time.Sleep(time.Minute)
			}
		}()
		if d := took(func() { p.expect("421 4.4.2") }); d > 7*time.Minute {
			t.Errorf("ended after %v", d)
		}
		p.expectEnd()
		time.Sleep(2 * time.Hour)
		w.stop()
	})
}

func TestSlowContent(t *testing.T) {
	for _, test := range []struct {
		name  string
		piece int // octets in each step
		step  time.Duration
		ok    bool
	}{
		{"4 KB/s", 4000, time.Second, true},
		{"500 B/s", 500, time.Second, true},
		{"bursts of 30 KB every 30 s", 30000, 30 * time.Second, true},
		{"400 B/s", 400, time.Second, false},
		{"one octet a second", 1, time.Second, false},
		{"stalled", 0, time.Second, false},
	} {
		for _, verb := range []string{"DATA", "BDAT"} {
			t.Run(test.name+" "+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const total = 420_000
					w := start(t)
					p := w.ready()
					end := ".\r\n"
					if verb == "DATA" {
						p.ask("DATA", "354")
					} else {
						p.send(fmt.Sprintf("BDAT %d LAST\r\n", total+2))
						end = ""
					}
					begin := time.Now()
					var client sync.WaitGroup
					defer client.Wait()
					client.Go(func() {
						if test.piece == 0 {
							return
						}
						for sent := 0; sent < total; sent += test.piece {
							if _, err := io.WriteString(p.conn, strings.Repeat("x", test.piece)); err != nil {
								return
							}
							time.Sleep(test.step)
						}
						p.send("\r\n" + end)
					})
					if test.ok {
						p.expect("250 2.0.0 queued")
						w.stop()
						return
					}
					p.expect("421 4.4.2")
					if d := time.Since(begin); d > 2*time.Minute {
						t.Errorf("cut off after %v", d)
					}
					// What comes late is read by no one.
					p.send("\r\n.\r\nMAIL FROM:<evil@example.org>\r\nNOOP\r\n")
					p.expectEnd()
					w.stop()
					if n := len(w.relay.taken()); n != 0 {
						t.Errorf("%d messages were taken", n)
					}
					if n := w.server.Stats().Stalled.Load(); n != 1 {
						t.Errorf("%d stalled contents counted", n)
					}
				})
			})
		}
	}
}

// TestBurstThenStall shows that a fast start earns no right to stall.
func TestBurstThenStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.ready()
		p.ask("DATA", "354")
		p.send(strings.Repeat("x\r\n", 1_000_000))
		if d := took(func() { p.expect("421 4.4.2") }); d > 2*time.Minute {
			t.Errorf("cut off after %v", d)
		}
		p.expectEnd()
		w.stop()
	})
}

// TestStallAfterRefusal shows that a client that ends its lines in LF alone, and so never ends its
// message, learns why it is not taken.
func TestStallAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.ready()
		p.ask("DATA", "354")
		p.send("Subject: x\n\nx\n.\n")
		if d := took(func() { p.expect("554 5.6.0") }); d > 2*time.Minute {
			t.Errorf("cut off after %v", d)
		}
		p.expectEnd()
		w.stop()
		if n := len(w.relay.taken()); n != 0 {
			t.Errorf("%d messages were taken", n)
		}
	})
}

// TestSlowChunks sends chunks that are too large to be junk, with long pauses.
func TestSlowChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.ready()
		d := took(func() {
			for {
				p.send("BDAT 100\r\n" + strings.Repeat("x", 100))
				if reply := p.read(); !strings.HasPrefix(reply, "250") {
					if !strings.HasPrefix(reply, "421 4.4.2") {
						t.Errorf("reply is %q", reply)
					}
					break
				}
				time.Sleep(2 * time.Minute)
			}
		})
		if d > 10*time.Minute {
			t.Errorf("cut off after %v", d)
		}
		p.expectEnd()
		w.stop()
	})
}

// TestSlowRelay shows that the time the relay takes is not the client's fault.
func TestSlowRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, withRelay(func(r *fakeRelay) {
			r.accept = func(_ context.Context, _ *queue.Envelope, content io.Reader) error {
				for range 10 {
					time.Sleep(time.Minute)
					if _, err := content.Read(make([]byte, 10)); err != nil {
						return err
					}
				}
				return nil
			}
		}))
		p := w.ready()
		p.ask("DATA", "354")
		p.send(strings.Repeat("0123456789abcdef\r\n", 20) + ".\r\n")
		p.expect("250 2.0.0 queued")
		w.stop()
	})
}

func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		conn := w.raw(true) // the greeting is read by no one
		d := took(func() {
			for w.server.Stats().Open.Load() > 0 {
				time.Sleep(time.Second)
			}
		})
		if !near(d, 5*time.Minute+5*time.Second) {
			t.Errorf("held for %v", d)
		}
		_ = conn.Close()
		w.stop()
	})
}

func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, withListener(inbound.Listener{TLS: inbound.ImplicitTLS}))
		conn := w.raw(true)
		if d := took(func() { _, _ = io.ReadAll(conn) }); !near(d, time.Minute) {
			t.Errorf("held for %v", d)
		}
		w.stop()
	})
}

func TestShutdown(t *testing.T) {
	const ready = "EHLO x\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n"
	for _, test := range []struct{ name, before, after, want string }{
		{"greeted", "", "", "421 4.3.2"},
		{"idle", "EHLO x\r\n", "", "421 4.3.2"},
		{"half a line", "EHLO x\r\nMAIL FR", "", "421 4.3.2"},
		{"after a message", ready + "DATA\r\n.\r\n", "", "421 4.3.2"},
		{"transaction", ready, "DATA\r\nx\r\n.\r\n", "354/250 2.0.0/421 4.3.2"},
		{"content", ready + "DATA\r\nx\r\n", ".\r\nMAIL FROM:<>\r\n", "250 2.0.0/421 4.3.2"},
		{"chunks", ready + "BDAT 3\r\na\r\n", "BDAT 3 LAST\r\nb\r\n", "250 2.0.0/421 4.3.2"},
		{"transaction given up", ready, "RSET\r\n", "250 2.0.0/421 4.3.2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				p := w.dial()
				p.send(test.before)
				synctest.Wait()
				for len(p.lines) > 0 {
					<-p.lines
				}
				done := make(chan error)
				go func() { done <- w.server.Shutdown(t.Context()) }()
				synctest.Wait()
				if test.after != "" {
					time.Sleep(10 * time.Second) // the client takes its time
					p.send(test.after)
				}
				for want := range strings.SplitSeq(test.want, "/") {
					p.expect(want)
				}
				p.expectEnd()
				if err := <-done; err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				if err := <-w.served; err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
}

func TestShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.ready()
		p.ask("DATA", "354")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		go func() { // slow, but alive
			for {
				if _, err := io.WriteString(p.conn, strings.Repeat("x", 1000)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		var err error
		if d := took(func() { err = w.server.Shutdown(ctx) }); !near(d, 30*time.Second) {
			t.Errorf("Shutdown took %v", d)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		p.expectEnd()
		if n := len(w.relay.taken()); n != 0 {
			t.Errorf("%d messages were taken", n)
		}
		time.Sleep(time.Minute)
	})
}

// TestShutdownUnderTLS wakes a session that waits within crypto/tls.
func TestShutdownUnderTLS(t *testing.T) {
	w := start(t, withTLS)
	idle, _ := w.secure(false)
	busy, _ := w.secure(false)
	busy.ask("MAIL FROM:<s@example.org>", "250")
	busy.ask("RCPT TO:<r@example.net>", "250")
	busy.ask("DATA", "354")
	done := make(chan error)
	go func() { done <- w.server.Shutdown(t.Context()) }()
	idle.expect("421 4.3.2")
	idle.expectEnd()
	busy.send("x\r\n.\r\n")
	busy.expect("250 2.0.0 queued")
	busy.expect("421 4.3.2")
	busy.expectEnd()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}
