package inbound_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// sink takes every message and keeps none.
type sink struct{ buf []byte }

func (sink) AdmitSender(bool, *queue.Origin, queue.ReversePath) error { return nil }
func (sink) Admit(bool, *queue.Origin, queue.ReversePath, queue.ForwardPath) error {
	return nil
}
func (sink) Ready() error         { return nil }
func (sink) Refuse(relay.Refusal) {}
func (s sink) Accept(_ context.Context, _ *queue.Envelope, content io.Reader, _ relay.Session) (queue.ID, error) {
	for {
		if _, err := content.Read(s.buf); err == io.EOF {
			return queue.ID{1}, nil
		} else if err != nil {
			return queue.ID{}, err
		}
	}
}

const hello = "EHLO client.example\r\n"

var (
	envelope = []byte("MAIL FROM:<sender@example.org> SIZE=5000\r\nRCPT TO:<recipient@example.net>\r\nDATA\r\n")
	body     = []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 64) + ".\r\n") // 5 KB
	quit     = []byte("QUIT\r\n")
)

// until reads until what was read ends in a reply that begins with code.
func until(b *testing.B, r io.Reader, buf []byte, code string) {
	n := 0
	for {
		m, err := r.Read(buf[n:])
		if err != nil {
			b.Fatal(err)
		}
		n += m
		last := buf[:n]
		if last[n-1] != '\n' {
			continue
		}
		if i := bytes.LastIndexByte(last[:n-1], '\n'); bytes.HasPrefix(last[i+1:], []byte(code)) {
			return
		}
	}
}

// one sends one message on a connection and leaves.
func one(b *testing.B, conn net.Conn, buf []byte) {
	until(b, conn, buf, "220 ")
	for _, step := range []struct {
		say  []byte
		code string
	}{{[]byte(hello), "250 ENH"}, {envelope, "354"}, {body, "250 2.0.0"}, {quit, "221"}} {
		if _, err := conn.Write(step.say); err != nil {
			b.Fatal(err)
		}
		until(b, conn, buf, step.code)
	}
	_ = conn.Close()
}

// BenchmarkSession is a connection with one message of 5 KB. Allocations
// include the client's, a few.
func BenchmarkSession(b *testing.B) {
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: sink{make([]byte, 64<<10)}, Tracer: new(scribe)})
	defer s.Shutdown(context.Background())
	b.Run("pipe", func(b *testing.B) {
		ln := newPipes()
		go s.Serve(ln, inbound.Listener{TLS: inbound.NoTLS})
		buf := make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			mine, theirs := net.Pipe()
			ln.conns <- theirs
			one(b, mine, buf)
		}
	})
	b.Run("tcp", func(b *testing.B) {
		ln, err := inbound.Listen(b.Context(), "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go s.Serve(ln, inbound.Listener{TLS: inbound.NoTLS})
		dialer := net.Dialer{KeepAlive: -1}
		buf := make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			conn, err := dialer.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			one(b, conn, buf)
		}
	})
}

// BenchmarkReuse is one more message of 5 KB on a connection that is open.
func BenchmarkReuse(b *testing.B) {
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: sink{make([]byte, 64<<10)}, Tracer: new(scribe)})
	defer s.Shutdown(context.Background())
	ln := newPipes()
	go s.Serve(ln, inbound.Listener{TLS: inbound.NoTLS})
	conn, theirs := net.Pipe()
	ln.conns <- theirs
	buf := make([]byte, 4096)
	until(b, conn, buf, "220 ")
	if _, err := io.WriteString(conn, hello); err != nil {
		b.Fatal(err)
	}
	until(b, conn, buf, "250 ENH")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(envelope); err != nil {
			b.Fatal(err)
		}
		until(b, conn, buf, "354")
		if _, err := conn.Write(body); err != nil {
			b.Fatal(err)
		}
		until(b, conn, buf, "250 2.0.0")
	}
	_ = conn.Close()
}

// TestIdleCost holds many sessions and bounds what each takes of heap and
// stacks, on the server's side and the test's own together.
func TestIdleCost(t *testing.T) {
	const sessions = 1000
	for _, test := range []struct {
		name, send, code string
		most             uint64
	}{
		{"greeted", "", "220", 9 << 10},
		{"EHLO", hello, "250 ENH", 16 << 10},
		{"after a message", hello + string(envelope) + string(body), "250 2.0.0", 24 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: sink{make([]byte, 64<<10)}})
			ln := newPipes()
			served := make(chan error)
			go func() { served <- s.Serve(ln, inbound.Listener{TLS: inbound.NoTLS}) }()
			before := inUse()
			conns := make([]net.Conn, sessions)
			buf := make([]byte, 4096)
			for i := range conns {
				mine, theirs := net.Pipe()
				conns[i] = mine
				ln.conns <- theirs
				if test.send != "" {
					go io.WriteString(mine, test.send)
				}
				for got := ""; !strings.Contains(got, test.code); {
					n, err := mine.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got += string(buf[:n])
				}
			}
			each := (inUse() - before) / sessions
			t.Logf("%d octets a session", each)
			if each > test.most {
				t.Errorf("a session takes %d octets, want at most %d", each, test.most)
			}
			for _, c := range conns {
				_ = c.Close()
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
