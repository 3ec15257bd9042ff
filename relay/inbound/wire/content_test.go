package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tacet/relay"
)

// tape is a socket whose client has said everything already, and that gives
// it out in pieces of at most step octets.
type tape struct {
	said  []byte
	step  int
	heard bytes.Buffer
}

func (t *tape) Read(p []byte) (int, error) {
	if len(t.said) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(t.step, 1))], t.said)
	t.said = t.said[n:]
	return n, nil
}

func (t *tape) Write(p []byte) (int, error)      { return t.heard.Write(p) }
func (t *tape) Close() error                     { return nil }
func (t *tape) LocalAddr() net.Addr              { return nil }
func (t *tape) RemoteAddr() net.Addr             { return nil }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// play gives a connection on which a content is about to be read.
func play(said []byte, step int, chunked bool) (*Conn, *tape) {
	socket := &tape{said: said, step: step}
	c := New(socket, new(Settings).Prepare())
	c.out = c.out[:0]
	c.content = content{scan: newScanner(), chunked: chunked}
	return c, socket
}

// readAll reads the content size octets at a time.
func readAll(c *Conn, size int) ([]byte, error) {
	var all []byte
	buf := make([]byte, max(size, 1))
	for {
		n, err := c.Content().Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if n == 0 {
			return all, errors.New("a read without progress")
		}
	}
}

// reference reads dot-stuffed data one octet at a time, by the letter of
// RFC 5321 §4.5.2. It returns the content, what follows its end, and whether it ended;
// bad tells of a bare CR, a bare LF or a NUL.
func reference(in []byte) (out, rest []byte, bad, ended bool) {
	start := true
	for i := range in {
		if start && in[i] == '.' {
			if bytes.HasPrefix(in[i:], []byte(".\r\n")) {
				return out, in[i+3:], bad || bareEnds(out), true
			}
			start = false
			continue
		}
		out = append(out, in[i])
		start = in[i] == '\n' && i > 0 && in[i-1] == '\r'
	}
	return out, nil, bad || bareEnds(out), false
}

// bareEnds tells whether a text holds what is no CR LF.
func bareEnds(b []byte) bool {
	rest := bytes.ReplaceAll(b, []byte("\r\n"), nil)
	// Taking a CR LF away may bring a CR and an LF together: what is left of either is bare.
	return bytes.ContainsAny(rest, "\r\n\x00")
}

func FuzzData(f *testing.F) {
	for _, s := range []string{
		"a\r\n.\r\nQUIT\r\n", "..\r\n.\r\n", "a\r\r\n.\r\n", "\r\n.\r\r\n.\r\n", "a\n.\r\n.\r\n", ".\rX\r\n.\r\n", ".\r\n", "\r\n\x00.\r\n.\r\n", ".\n.\r\n", "\r\n..\r\n.\r",
	} {
		f.Add([]byte(s), byte(1), byte(1))
		f.Add([]byte(s), byte(200), byte(200))
	}
	f.Fuzz(func(t *testing.T, in []byte, step, size byte) {
		want, rest, bad, ended := reference(in)
		c, socket := play(bytes.Clone(in), int(step), false)
		got, err := readAll(c, int(size))
		refused := c.Refusal() != nil
		if refused {
			c.phase, c.expect = phaseContent, expectFinal
			if err := c.endContent(); err != nil {
				t.Fatal(err)
			}
			err = nil
			if !c.content.over {
				err = errTruncated
			}
		}
		left := append(bytes.Clone(c.in[c.r:c.w]), socket.said...)
		switch {
		case ended != (err == nil):
			t.Fatalf("ended with %v, the reference ended: %v", err, ended)
		case ended && !bytes.Equal(left, rest):
			t.Fatalf("%q is left, want %q", left, rest)
		case ended && refused != bad:
			t.Fatalf("refused: %v, want %v", refused, bad)
		case ended && !bad && !bytes.Equal(got, want):
			t.Fatalf("content is %q, want %q", got, want)
		case !bytes.HasPrefix(want, got):
			t.Fatalf("content begins with %q, want %q", got, want)
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("a\r\nb\r\n"), []byte{1, 3}, byte(1), byte(1))
	f.Add([]byte("a\r\n.\r\n\rb"), []byte{0, 4, 2}, byte(100), byte(100))
	f.Fuzz(func(t *testing.T, in, cuts []byte, step, size byte) {
		if len(cuts) > 50 {
			return // null chunks are junk
		}
		// The stream of chunks whose sizes cuts tells, and a command after it.
		var said []byte
		rest := in
		for _, cut := range cuts {
			n := min(int(cut), len(rest))
			said = fmt.Appendf(said, "BDAT %d\r\n%s", n, rest[:n])
			rest = rest[n:]
		}
		said = fmt.Appendf(said, "BDAT %d LAST\r\n%sNOOP\r\n", len(rest), rest)
		c, socket := play(said, int(step), true)
		c.open, c.rcpts = true, 1
		line, err := c.line(false)
		if err != nil {
			t.Fatal(err)
		}
		c.bdatCommand(line[len("BDAT "):])
		got, err := readAll(c, int(size))
		if bareEnds(in) != (c.Refusal() != nil) {
			t.Fatalf("refused with %v, want %v", err, bareEnds(in))
		}
		if c.Refusal() != nil {
			return
		}
		want := in
		if len(in) > 0 && !bytes.HasSuffix(in, []byte("\r\n")) {
			want = append(bytes.Clone(in), "\r\n"...)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("content is %q, %v; want %q", got, err, want)
		}
		if left := append(bytes.Clone(c.in[c.r:c.w]), socket.said...); string(left) != "NOOP\r\n" {
			t.Fatalf("%q is left", left)
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(socket.heard.String(), replyChunk); n != len(cuts) {
			t.Fatalf("%d chunks were answered, want %d", n, len(cuts))
		}
	})
}

// TestStateOfTheScanner goes over texts whose parts meet at each place.
func TestStateOfTheScanner(t *testing.T) {
	for _, test := range []struct {
		in         string
		bad, start bool
	}{
		{"a", false, false}, {"a\r\n", false, true}, {"\r\n\r\n", false, true}, {"a\r", false, false},
		{"a\n", true, false}, {"\n", true, false}, {"a\rb", true, false}, {"\r\r\n", true, true}, {"a\r\n\n", true, false},
		{"\n\r\n", true, true}, {"a\x00", true, false}, {"\r\n\r", false, false}, {"\r\n\r\nb\r\n", false, true},
	} {
		for cut := 0; cut <= len(test.in); cut++ {
			s := newScanner()
			for _, part := range []string{test.in[:cut], test.in[cut:]} {
				if part != "" && s.run([]byte(part), false) != len(part) {
					t.Fatalf("%q stops early", part)
				}
			}
			if s.bad != test.bad || s.start != test.start {
				t.Errorf("%q cut at %d: bad %v, start %v", test.in, cut, s.bad, s.start)
			}
		}
	}
}

func TestRefusalsAreOfTheSyntax(t *testing.T) {
	for _, r := range []*relay.Rejection{errBareLineEnd, errTooLarge} {
		if r.Code/100 != 5 || r.Class == relay.ClassContent {
			t.Errorf("%+v", r)
		}
	}
}

// endless is a socket that says the same again and again.
type endless struct {
	tape
	text []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m := copy(p[n:], e.text[e.at:])
		e.at = (e.at + m) % len(e.text)
		n += m
	}
	return n, nil
}

// BenchmarkContent reads content in portions as the relay does. The copy from
// the socket, which the kernel makes in the field, is included.
func BenchmarkContent(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	for _, bench := range []struct {
		name, text string
		chunked    bool
	}{
		{"DATA/lines of 78", line, false},
		{"DATA/lines of 998", strings.Repeat("x", 998) + "\r\n", false},
		{"DATA/each fifth stuffed", strings.Repeat(line, 4) + "." + line, false},
		{"DATA/empty lines", "\r\n", false},
		{"BDAT/lines of 78", line, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			socket := &endless{text: []byte(strings.Repeat(bench.text, 1+(1<<20)/len(bench.text)))}
			c := New(socket, new(Settings).Prepare())
			c.content = content{scan: newScanner(), chunked: bench.chunked, left: 1 << 62, last: true}
			c.borrow()
			r := c.Content()
			p := make([]byte, 32<<10)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(r, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
