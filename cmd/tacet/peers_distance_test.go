package main_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// roundTrip is how far away the next hops of these tests are.
const roundTrip = 100 * time.Millisecond

// wire is a long way to a next hop, and what it took to go it.
type wire struct {
	addr       string // its near end
	turns      atomic.Int64
	mu         sync.Mutex
	open, most int
}

// carried notes one more connection, or one less.
func (w *wire) carried(one int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += one
	w.most = max(w.most, w.open)
}

// delayed listens in front of addr, half a round trip away from it on each way.
func delayed(t *testing.T, addr string) *wire {
	t.Helper()
	w := new(wire)
	listener, err := net.Listen("tcp", freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var open sync.Map
	conns.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			open.Store(near, nil)
			w.carried(1)
			// Who heard the other and speaks then has waited for a round trip.
			var heard atomic.Bool
			conns.Go(func() {
				carry(far, near, func() {
					if heard.Swap(false) {
						w.turns.Add(1)
					}
				}, func() {})
			})
			conns.Go(func() {
				defer open.Delete(near)
				defer w.carried(-1)
				carry(near, far, func() {}, func() { heard.Store(true) })
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
		conns.Wait()
	})
	w.addr = listener.Addr().String()
	return w
}

// carry copies from one connection to the other, everything as long on its way. It tells
// when something sets out, and when it is about to arrive.
func carry(to, from net.Conn, sent, arrives func()) {
	type packet struct {
		due  time.Time
		data []byte
	}
	way := make(chan packet, 1024)
	go func() {
		defer close(way)
		for {
			data := make([]byte, 16<<10)
			n, err := from.Read(data)
			if n > 0 {
				sent()
				way <- packet{time.Now().Add(roundTrip / 2), data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		<-time.After(time.Until(p.due))
		arrives()
		if _, err := to.Write(p.data); err != nil {
			from.Close()
		}
	}
	to.Close()
}

// rate hands n messages to the relay at addr and returns how many a second
// arrived at the sink, from the first to the last.
func (s *sink) rate(t *testing.T, addr string, n int, to string) float64 {
	t.Helper()
	before := len(s.mail.all())
	content := numbered(n, 3000)
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			client, err := dial(addr, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			for range n / 10 {
				if err := client.submit(content, "anna@example.org", to); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	all := s.mail.until(t, fmt.Sprintf("%d messages over a distance", n), func(got []message) bool { return len(got) >= before+n })[before:]
	return float64(n-1) / all[n-1].taken.Sub(all[0].taken).Seconds()
}

// distance: over a long way the relay waits for no more round trips for a message than
// Postfix does over as many connections, and for a third less where the next hop takes
// chunks. How much it hands on in a second follows from that, and from how busy the
// machine is.
func (p *peers) distance(t *testing.T) {
	const messages = 240
	measure := func(chunks bool, addr func(next string) string) (turns, rate float64) {
		next := newSink(t, func(s *sink) {
			if !chunks {
				s.offer = []string{"PIPELINING", "SIZE 104857600", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES"}
			}
		})
		w := delayed(t, next.addr)
		rate = next.rate(t, addr(w.addr), messages, "bob@example.net")
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.most < 10 || w.most > connections {
			t.Errorf("%d connections at a time, want more than at first and %d at most", w.most, connections)
		}
		return float64(w.turns.Load()) / messages, rate
	}
	own := func(next string) string {
		return p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next))).starttls
	}
	postfix, postfixRate := measure(true, func(next string) string {
		return p.newPostfix(t, "near.example.org", hop(next), "default_destination_concurrency_limit = 20", "initial_destination_concurrency = 20").addr
	})
	plain, plainRate := measure(false, own)
	chunks, chunksRate := measure(true, own)
	t.Logf("round trips for a message: Postfix %.2f, without CHUNKING %.2f, with it %.2f; messages/s over %v of round trip and %d connections: %.0f, %.0f and %.0f",
		postfix, plain, chunks, roundTrip, connections, postfixRate, plainRate, chunksRate)
	if plain > postfix || 1.5*chunks > postfix {
		t.Errorf("Postfix waits for %.2f round trips for a message, the relay for %.2f, and for %.2f in chunks", postfix, plain, chunks)
	}
}

// slowNeighbours: 200 destinations that accept connections and say nothing take
// nothing from one that is well.
func (p *peers) slowNeighbours(t *testing.T) {
	const neighbours = 200
	silent, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	var waiting atomic.Int64
	open.Go(func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			waiting.Add(1)
			open.Go(func() {
				defer conn.Close()
				io.Copy(io.Discard, conn)
			})
		}
	})
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	var config strings.Builder
	config.WriteString(trustLoopback)
	for i := range neighbours {
		fmt.Fprintf(&config, "[[delivery.route]]\ndomain = \"d%d.slow.example\"\nnext_hop = \"[127.1.0.%d]:%s\"\n", i, i+1, port)
	}
	one, other := newSink(t), newSink(t)
	beside := p.daemon(t, config.String()+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(delayed(t, one.addr).addr)))
	alone := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(delayed(t, other.addr).addr)))
	t.Cleanup(func() {
		beside.proc.kill()
		silent.Close()
		open.Wait()
	})
	for i := range neighbours {
		for range 5 {
			if err := submitOne(beside.starttls, numbered(i, 3000), "anna@example.org", fmt.Sprintf("carl@d%d.slow.example", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "connections to wait at the neighbours", func() bool { return waiting.Load() >= neighbours })
	// Both at the same time: what else the machine does befalls both, if not in the same way.
	const share = 0.95
	var left, right float64
	for range 16 { // the first time they start with few connections
		var both sync.WaitGroup
		both.Go(func() { right = other.rate(t, alone.starttls, 400, "bob@example.net") })
		left = one.rate(t, beside.starttls, 400, "bob@example.net")
		if both.Wait(); left >= share*right {
			break
		}
	}
	t.Logf("messages/s beside %d destinations with %d connections that hang %.0f, without them %.0f (%.1f %%)", neighbours, waiting.Load(), left, right, 100*left/right)
	if left < share*right {
		t.Errorf("%.0f messages a second beside destinations that hang, %.0f without them", left, right)
	}
}
