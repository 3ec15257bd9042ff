package outbound

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// wire is a blockWriter that keeps what is written.
type wire struct {
	bytes.Buffer
	last bool
}

func (w *wire) writeBlock(b []byte, last bool) *fault {
	w.Write(b)
	w.last = w.last || last
	return nil
}

// stuff writes content in pieces of the given size, as for DATA.
func stuff(content []byte, piece int) (string, bool) {
	var w wire
	c := contentWriter{to: &w, left: int64(len(content)), dots: true, buf: make([]byte, 0, 64)}
	for rest := content; len(rest) > 0; {
		n := min(piece, len(rest))
		if f := c.write(rest[:n]); f != nil {
			return "", false
		}
		rest = rest[n:]
	}
	if f := c.close(); f != nil || !w.last {
		return "", false
	}
	return w.String(), true
}

// ends are what some receiver or other takes for the end of content.
var ends = []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\r\n.\r\r\n"}

func FuzzContent(f *testing.F) {
	f.Add([]byte(strings.Repeat("x", 998)+"\r\n."+strings.Repeat("y", 997)), uint8(200))
	f.Add([]byte(strings.Repeat("x", 999)+"\r\n"), uint8(0))
	for _, s := range []string{letter, ".", "..\r\n.", "\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<x>", "a\n.\nb", "a\r.\rb", "\r\n\x00.\r\n", "a\r", "\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, content []byte, piece uint8) {
		strict := bytes.Count(content, []byte("\r\n"))
		clean := bytes.Count(content, []byte("\r")) == strict && bytes.Count(content, []byte("\n")) == strict && !bytes.Contains(content, []byte{0})
		out, ok := stuff(content, int(piece)+1)
		long := false
		for line := range bytes.Lines(content) {
			long = long || len(bytes.TrimRight(line, "\r\n")) > 998
		}
		whole, tooLong := sound(content)
		if ok != (clean && !long) || whole != clean || clean && tooLong != long {
			t.Fatalf("taken: %v, sound: %v, clean: %v, lines too long: %v, %v", ok, whole, clean, tooLong, long)
		}
		if !ok {
			return
		}
		in := bufio.NewReader(strings.NewReader(out + "QUIT\r\n"))
		got, err := readDots(in)
		want := string(content)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if err != nil || got != want {
			t.Fatalf("read back: %q, %v", got, err)
		}
		if rest, _ := in.ReadString('\n'); rest != "QUIT\r\n" {
			t.Fatalf("%q is left", rest)
		}
		// No lenient receiver finds an end before the end.
		before := "\r\n" + strings.TrimSuffix(out, ".\r\n")
		for _, end := range ends {
			if strings.Contains(before, end) {
				t.Fatalf("%q has the end %q", before, end)
			}
		}
		if strings.Contains(before, "\r\n.\r\n") {
			t.Fatalf("%q has an end", before)
		}
	})
}

// discard is a blockWriter that keeps nothing.
type discard struct{}

func (discard) writeBlock([]byte, bool) *fault { return nil }

func BenchmarkContent(b *testing.B) {
	for name, line := range map[string]string{
		"text":   "The quick brown fox jumps over the lazy dog, again and again and again.\r\n",
		"dots":   ".The quick brown fox jumps over the lazy dog, again and again and again\r\n",
		"short":  "x\r\n",
		"binary": strings.Repeat("x", 996) + "\r\n",
	} {
		content := bytes.Repeat([]byte(line), 1<<20/len(line))
		for mode, dots := range map[string]bool{"DATA": true, "BDAT": false} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				b.SetBytes(int64(len(content)))
				b.ReportAllocs()
				buf := make([]byte, 0, blockSize)
				for b.Loop() {
					w := contentWriter{to: discard{}, left: int64(len(content)), dots: dots, buf: buf[:0]}
					if f := w.writeAll(content); f != nil {
						b.Fatal(f.err)
					}
					if f := w.close(); f != nil {
						b.Fatal(f.err)
					}
				}
			})
		}
	}
}

// sink is the cheapest hop there can be: it answers a reused connection's
// transaction by fixed replies.
func sink(s *side) {
	s.say("220 sink")
	s.in.ReadSlice('\n')
	s.conn.Write([]byte("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"))
	asked, taken := []byte("250 2.0.0 ok\r\n250 2.0.0 ok\r\n354 go\r\n"), []byte("250 2.0.0 Ok: queued as 4XyZ123abc\r\n")
	for {
		for {
			line, err := s.in.ReadSlice('\n')
			if err != nil {
				return
			}
			if string(line) == "DATA\r\n" {
				break
			}
		}
		s.conn.Write(asked)
		for {
			line, err := s.in.ReadSlice('\n')
			if err != nil {
				return
			}
			if string(line) == ".\r\n" {
				break
			}
		}
		s.conn.Write(taken)
	}
}

func BenchmarkDeliver(b *testing.B) {
	content := letter + strings.Repeat("The quick brown fox jumps over the lazy dog, again and again and again.\r\n", 70)
	for _, name := range []string{"pipe", "tcp"} {
		b.Run(name, func(b *testing.B) {
			h := newHop(b, sink)
			dial := h.dial
			if name == "tcp" {
				dial = h.dialTCP
			}
			c := New(Config{Tracer: new(scribe), MaxMessages: 1 << 30, Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) { return dial(ctx, a) }}, hops(1))
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			m := claim(content, "a@example.com")
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if r := c.Deliver(ctx, m); !r.Replies[0].Delivered() {
					b.Fatalf("%+v", r)
				}
			}
			c.Close()
			h.wg.Wait()
		})
	}
}
