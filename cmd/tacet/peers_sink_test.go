package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sink is a next hop that keeps every octet it is sent.
type sink struct {
	addr string
	mail *feed[message]

	offer   []string // EHLO keywords
	tls     *tls.Config
	digest  bool // keep digests in place of contents
	verdict atomic.Pointer[func(verb, line string) string]
}

// The words that a verdict may say in place of a reply.
const (
	replyHang  = "hang"  // say nothing more and keep the connection open
	replyDrop  = "drop"  // close the connection
	replyFlood = "flood" // a reply without end
)

// message is what a sink was sent.
type message struct {
	from    string // the argument of MAIL
	to      []string
	content []byte
	ledger  string // value of the Ledger field; digests only
	sum     [32]byte
	chunked bool
	tls     bool
	since   time.Time // when its connection was taken, before the greeting
	taken   time.Time // when the sink began to say so
}

func (m message) String() string {
	return fmt.Sprintf("%s → %v ledger=%s %q", m.from, m.to, m.ledger, m.content[:min(len(m.content), 300)])
}

// extensions is what a modern next hop offers.
func extensions() []string {
	return []string{"PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES"}
}

// newSink starts a next hop at a free port; each of change may adjust it before.
func newSink(t *testing.T, change ...func(*sink)) *sink {
	t.Helper()
	s := &sink{mail: newFeed[message](), offer: extensions()}
	for _, f := range change {
		f(s)
	}
	if s.addr == "" {
		s.addr = freePort(t)
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	var open sync.Map
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			sessions.Go(func() {
				defer open.Delete(conn)
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
		sessions.Wait()
	})
	return s
}

// withTLS makes the sink offer STARTTLS.
func withTLS(id identity) func(*sink) {
	return func(s *sink) { s.tls = &tls.Config{Certificates: []tls.Certificate{id.pair}} }
}

// answer makes the sink ask f for its replies; an empty one is the usual one.
func (s *sink) answer(f func(verb, line string) string) { s.verdict.Store(&f) }

// always answers one verb with one reply.
func always(verb, reply string) func(string, string) string {
	return func(v, _ string) string {
		if v == verb {
			return reply
		}
		return ""
	}
}

// dialog is one session of a sink.
type dialog struct {
	*sink
	conn      net.Conn
	r         *bufio.Reader
	w         *bufio.Writer
	encrypted bool
	since     time.Time
	now       message
	keep      keeper
}

func (s *sink) serve(conn net.Conn) {
	d := &dialog{sink: s, conn: conn, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriter(conn), since: time.Now()}
	if !d.reply("CONNECT", "", "220 sink.example ESMTP") {
		return
	}
	for {
		if d.r.Buffered() == 0 && d.w.Flush() != nil {
			return
		}
		line, err := d.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if !d.command(verb, line) {
			return
		}
	}
}

// reply writes what the verdict says, or else usual. It returns false when the session is over.
func (d *dialog) reply(verb, line, usual string) bool {
	text := ""
	if f := d.verdict.Load(); f != nil {
		text = (*f)(verb, line)
	}
	switch text {
	case "":
		text = usual
	case replyDrop:
		d.w.Flush()
		return false
	case replyHang:
		d.w.Flush()
		io.Copy(io.Discard, d.r)
		return false
	case replyFlood:
		for {
			if _, err := io.WriteString(d.w, "250-"+strings.Repeat("x", 100)+"\r\n"); err != nil {
				return false
			}
		}
	}
	fmt.Fprintf(d.w, "%s\r\n", text)
	if strings.HasPrefix(text, "421") {
		d.w.Flush()
		return false
	}
	return true
}

func (d *dialog) command(verb, line string) bool {
	switch verb {
	case "EHLO":
		lines := append([]string{"sink.example"}, d.offer...)
		if d.tls != nil && !d.encrypted {
			lines = append(lines, "STARTTLS")
		}
		var text strings.Builder
		for _, l := range lines[:len(lines)-1] {
			fmt.Fprintf(&text, "250-%s\r\n", l)
		}
		return d.reply(verb, line, text.String()+"250 "+lines[len(lines)-1])
	case "HELO":
		return d.reply(verb, line, "250 sink.example")
	case "STARTTLS":
		return d.startTLS(line)
	case "MAIL":
		d.now, d.keep = message{from: line[len("MAIL FROM:"):], tls: d.encrypted, since: d.since}, keeper{digest: d.digest}
		return d.reply(verb, line, "250 2.1.0 sender ok")
	case "RCPT":
		// Only a usual reply is a 250.
		if f := d.verdict.Load(); f == nil || (*f)(verb, line) == "" {
			d.now.to = append(d.now.to, line[len("RCPT TO:"):])
		}
		return d.reply(verb, line, "250 2.1.5 recipient ok")
	case "DATA":
		return d.data(line)
	case "BDAT":
		return d.bdat(line)
	case "QUIT":
		d.reply(verb, line, "221 2.0.0 bye")
		d.w.Flush()
		return false
	case "RSET", "NOOP":
		return d.reply(verb, line, "250 2.0.0 ok")
	}
	return d.reply(verb, line, "500 5.5.1 what?")
}

func (d *dialog) startTLS(line string) bool {
	if !d.reply("STARTTLS", line, "220 2.0.0 go ahead") || d.w.Flush() != nil {
		return false
	}
	conn := tls.Server(d.conn, d.tls)
	if conn.Handshake() != nil {
		return false
	}
	d.conn, d.encrypted = conn, true
	d.r.Reset(conn)
	d.w.Reset(conn)
	return true
}

func (d *dialog) data(line string) bool {
	if !d.reply("DATA", line, "354 go ahead") || d.w.Flush() != nil {
		return false
	}
	if err := undot(d.r, &d.keep); err != nil {
		return false
	}
	return d.taken(".")
}

func (d *dialog) bdat(line string) bool {
	fields := strings.Fields(line)
	size, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return false
	}
	if _, err := io.CopyN(&d.keep, d.r, size); err != nil {
		return false
	}
	d.now.chunked = true
	if len(fields) == 3 {
		return d.taken(".")
	}
	return d.reply("BDAT", line, "250 2.0.0 chunk ok")
}

// taken ends a message. What gets the usual reply counts as taken before the
// reply is sent: the client may not learn of it any more.
func (d *dialog) taken(verb string) bool {
	if f := d.verdict.Load(); f != nil && (*f)(verb, "") != "" {
		return d.reply(verb, "", "")
	}
	m := d.now
	m.content, m.ledger, m.sum = d.keep.end()
	m.taken = time.Now()
	d.mail.add(m)
	return d.reply(verb, "", "250 2.0.0 Ok: queued as SINK42")
}

// undot copies content up to the final dot and takes the stuffing out, every
// other octet as it is.
func undot(r *bufio.Reader, w io.Writer) error {
	for start := true; ; {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if start && bytes.Equal(line, []byte(".\r\n")) {
			return nil
		}
		out := line
		if start && line[0] == '.' {
			out = line[1:]
		}
		start = bytes.HasSuffix(line, []byte("\r\n"))
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
}

// keeper keeps a content, or the digest of what follows its trace fields: from
// the Ledger field on.
type keeper struct {
	digest bool
	kept   []byte
	ledger string
	sum    hash.Hash
}

const ledgerField = "Ledger: "

func (k *keeper) Write(p []byte) (int, error) {
	if k.sum != nil {
		return k.sum.Write(p)
	}
	k.kept = append(k.kept, p...)
	if k.digest && len(k.kept) > 4096 {
		k.begin()
	}
	return len(p), nil
}

func (k *keeper) begin() {
	k.sum = sha256.New()
	_, rest, _ := bytes.Cut(k.kept, []byte(ledgerField))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	k.ledger = string(value)
	k.sum.Write(rest)
	k.kept = nil
}

func (k *keeper) end() (content []byte, ledger string, sum [32]byte) {
	if k.digest && k.sum == nil {
		k.begin()
	}
	if k.sum != nil {
		k.sum.Sum(sum[:0])
	}
	return k.kept, k.ledger, sum
}
