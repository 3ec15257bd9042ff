package inbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"tacet/relay/inbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConnectionLimits(t *testing.T) {
	const turnedAway = "421 4.7.0"
	for _, test := range []struct {
		name   string
		limits inbound.Limits
		from   []string // the last one is turned away, if any is
		away   bool
	}{
		{"all", inbound.Limits{Connections: 2}, []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"}, true},
		{"one address", inbound.Limits{ConnectionsPerClient: 2}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, true},
		{"another address", inbound.Limits{ConnectionsPerClient: 2}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:3"}, false},
		{"one /64", inbound.Limits{ConnectionsPerClient: 2}, []string{"[2001:db8::1]:1", "[2001:db8::ffff:2]:2", "[2001:db8::3]:3"}, true},
		{"another /64", inbound.Limits{ConnectionsPerClient: 2}, []string{"[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8:0:1::1]:3"}, false},
		{"IPv4 in IPv6", inbound.Limits{ConnectionsPerClient: 1}, []string{"[::ffff:192.0.2.1]:1", "192.0.2.1:2"}, true},
		{"none", inbound.Limits{}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, withLimits(test.limits))
			var last, first *peer
			for i, from := range test.from {
				last = w.dialFrom(from)
				if i == 0 {
					first = last
				}
				if test.away && i == len(test.from)-1 {
					last.expect(turnedAway)
					last.expectEnd()
					break
				}
				last.expect("220")
			}
			if !test.away {
				return
			}
			// Room is made by one that leaves.
			first.ask("QUIT", "221")
			first.expectEnd()
			for w.server.Stats().Open.Load() > int64(len(test.from)-2) {
				runtime.Gosched()
			}
			w.dialFrom(test.from[len(test.from)-1]).expect("220")
		})
	}
}

func TestSetLimits(t *testing.T) {
	w := start(t, withLimits(inbound.Limits{MaxMessageSize: 1000}))
	old := w.hello()
	w.server.SetLimits(inbound.Limits{MaxMessageSize: 2000, MaxRecipients: 1})
	if got := w.dial().ask("EHLO x", "250"); !strings.Contains(got, "SIZE 2000\r\n") {
		t.Errorf("EHLO: %q", got)
	}
	old.ask("MAIL FROM:<s@example.org> SIZE=1001", "552")
	p := w.ready()
	p.ask("RCPT TO:<two@example.net>", "452")
}

// failing is a listener that fails a few times before it accepts.
type failing struct {
	*pipes
	mu     sync.Mutex
	errors []error
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	if len(f.errors) > 0 {
		err := f.errors[0]
		f.errors = f.errors[1:]
		f.mu.Unlock()
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	f.mu.Unlock()
	return f.pipes.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &troubles{}
		s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: &fakeRelay{}, Events: events})
		ln := &failing{pipes: newPipes()}
		for range 20 {
			ln.errors = append(ln.errors, syscall.EMFILE)
		}
		served := make(chan error)
		go func() { served <- s.Serve(ln, inbound.Listener{}) }()
		mine, theirs := net.Pipe()
		d := took(func() { ln.conns <- theirs })
		// 5 ms, doubled up to a second: neither a busy loop nor a long sleep.
		if d < 5*time.Second || d > 20*time.Second {
			t.Errorf("accepted after %v", d)
		}
		newPeer(t, mine).expect("220")
		if len(events.seen) != 20 || events.seen[0] != inbound.TroubleAccept {
			t.Errorf("trouble is %v", events.seen)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestListenerFails(t *testing.T) {
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: &fakeRelay{}})
	ln := &failing{pipes: newPipes(), errors: []error{syscall.EINVAL}}
	if err := s.Serve(ln, inbound.Listener{}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Serve(newPipes(), inbound.Listener{}); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownUnused(t *testing.T) {
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: &fakeRelay{}})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Shutdown: %v", err)
	}
}

// TestLastWordsAreRead shows that a client that talks on when it is cut off
// reads why, and does not just see its connection reset.
func TestLastWordsAreRead(t *testing.T) {
	for name, send := range map[string]string{
		"endless line":  strings.Repeat("x", 2<<20),
		"too large":     "EHLO x\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n" + strings.Repeat("x\r\n", 1<<20),
		"HTTP":          "POST / HTTP/1.1\r\n" + strings.Repeat("x\r\n", 1<<19),
		"many commands": "EHLO x\r\n" + strings.Repeat("NOOP\r\n", 1<<18),
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, withLimits(inbound.Limits{MaxMessageSize: 1000}))
			conn := w.tcp()
			go io.WriteString(conn, send)
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			heard, err := io.ReadAll(conn)
			lines := strings.Split(strings.TrimSuffix(string(heard), "\r\n"), "\r\n")
			last := lines[len(lines)-1]
			if err != nil || !strings.HasPrefix(last, "421") && !strings.HasPrefix(last, "5") {
				t.Errorf("last words are %q, %v", last, err)
			}
		})
	}
}

// TestTCP sends messages over real sockets, from many clients at a time.
func TestTCP(t *testing.T) {
	w := &world{t: t, relay: &fakeRelay{}, served: make(chan error, 1)}
	w.server = inbound.New(inbound.Config{Hostname: "relay.example", TLS: serverTLS(t), Relay: w.relay, Auth: users{}})
	ln, err := inbound.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { w.served <- w.server.Serve(ln, inbound.Listener{}) }()
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			body := strings.Repeat(fmt.Sprintf("line of client %d\r\n", i), 20000)
			_, _ = conn.Write([]byte("EHLO x\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n"))
			_, _ = conn.Write([]byte(body + ".\r\nQUIT\r\n"))
			var all strings.Builder
			buf := make([]byte, 1000)
			for {
				n, err := conn.Read(buf)
				all.Write(buf[:n])
				if err != nil {
					break
				}
			}
			if !strings.HasSuffix(all.String(), "221 2.0.0 Bye\r\n") || !strings.Contains(all.String(), "queued as") {
				t.Errorf("client %d read %q", i, all.String())
			}
		})
	}
	clients.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-w.served; err != nil {
		t.Error(err)
	}
	for _, m := range w.relay.taken() {
		var i int
		if _, err := fmt.Sscanf(m.content, "line of client %d", &i); err != nil {
			t.Fatal(err)
		}
		if m.content != strings.Repeat(fmt.Sprintf("line of client %d\r\n", i), 20000) {
			t.Errorf("the message of client %d came out differently", i)
		}
	}
	if n := len(w.relay.taken()); n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
}
