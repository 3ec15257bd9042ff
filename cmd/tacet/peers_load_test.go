package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// session is a client of the tests' own, of a trusted network.
type session struct {
	*textproto.Conn
	conn net.Conn
}

// dial greets the relay; a certificate makes it implicit TLS.
func dial(addr string, id *identity) (*session, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(3 * patience))
	if id != nil {
		conn = tls.Client(conn, &tls.Config{RootCAs: id.pool, ServerName: "localhost"})
	}
	s := &session{textproto.NewConn(conn), conn}
	if _, _, err = s.ReadResponse(220); err == nil {
		err = s.say(250, "EHLO client.example")
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// say sends one command and wants one reply.
func (s *session) say(want int, format string, args ...any) error {
	if err := s.PrintfLine(format, args...); err != nil {
		return err
	}
	_, _, err := s.ReadResponse(want)
	return err
}

// begin takes a transaction up to the 354.
func (s *session) begin(from string, to ...string) error {
	if err := s.say(250, "MAIL FROM:<%s> BODY=8BITMIME", from); err != nil {
		return err
	}
	for _, recipient := range to {
		if err := s.say(250, "RCPT TO:<%s>", recipient); err != nil {
			return err
		}
	}
	return s.say(354, "DATA")
}

// end sends what is left of the content, which has no line that starts with a
// dot, and waits for the relay to take it.
func (s *session) end(content []byte) error {
	for _, b := range [][]byte{content, []byte(".\r\n")} {
		if _, err := s.W.Write(b); err != nil {
			return err
		}
	}
	if err := s.W.Flush(); err != nil {
		return err
	}
	_, _, err := s.ReadResponse(250)
	return err
}

// submit hands in one message.
func (s *session) submit(content []byte, from string, to ...string) error {
	if err := s.begin(from, to...); err != nil {
		return err
	}
	return s.end(content)
}

// submitOne does so in a session of its own.
func submitOne(addr string, content []byte, from string, to ...string) error {
	s, err := dial(addr, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.submit(content, from, to...)
}

// numbered is the message number n with its header and about size octets.
func numbered(n, size int) []byte {
	head := fmt.Sprintf("%s%d\r\nFrom: <anna@example.org>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%d@client.example>\r\nSubject: number %d\r\n\r\n", ledgerField, n, n, n)
	line := fmt.Sprintf("%08d %s\r\n", n, strings.Repeat("z", 67))
	return append([]byte(head), bytes.Repeat([]byte(line), max(1, size/len(line)))...)
}

// digestOf is what a sink that keeps digests says of a content.
func digestOf(content []byte) [32]byte {
	return sha256.Sum256(content[len(ledgerField):])
}

// ledger is what the relay has acknowledged.
type ledger struct {
	mu    sync.Mutex
	next  int
	acked *feed[int]
}

// sizeOf varies: most are small, some are streamed.
func sizeOf(n int) int {
	if n%16 == 0 {
		return 700_000
	}
	return 5_000
}

// load submits with many sessions until their connections end. The returned
// function waits for that.
func (l *ledger) load(addr string, sessions int) (wait func()) {
	var running sync.WaitGroup
	for range sessions {
		running.Go(func() {
			s, err := dial(addr, nil)
			if err != nil {
				return
			}
			defer s.Close()
			for {
				l.mu.Lock()
				l.next++
				n := l.next
				l.mu.Unlock()
				if s.submit(numbered(n, sizeOf(n)), "anna@example.org", fmt.Sprintf("n%d@example.net", n)) != nil {
					return
				}
				l.acked.add(n)
			}
		})
	}
	return running.Wait
}

// arrived waits until everything acknowledged is at the sink whole, and
// returns how many arrived more than once.
func (l *ledger) arrived(t *testing.T, s *sink) (duplicates int) {
	t.Helper()
	acked := l.acked.all()
	count := map[string]int{}
	seen := 0
	s.mail.until(t, fmt.Sprintf("all of the %d acknowledged messages", len(acked)), func(items []message) bool {
		for _, m := range items[seen:] {
			count[m.ledger]++
		}
		seen = len(items)
		for _, n := range acked {
			if count[strconv.Itoa(n)] == 0 {
				return false
			}
		}
		return true
	})
	for _, m := range s.mail.all() {
		n, err := strconv.Atoi(m.ledger)
		if err != nil || m.sum != digestOf(numbered(n, sizeOf(n))) {
			t.Errorf("message %q arrived damaged", m.ledger)
		}
	}
	for _, c := range count {
		duplicates += c - 1
	}
	return duplicates
}

const trustLoopback = "[relay]\ntrusted_networks = [\"127.0.0.0/8\"]\n"

// sigterm: an orderly end under load loses nothing and delivers nothing twice,
// and who is idle hears of it.
func (p *peers) sigterm(t *testing.T) {
	next := newSink(t, func(s *sink) { s.digest = true })
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	l := &ledger{acked: newFeed[int]()}
	for range 2 {
		idle, err := dial(d.starttls, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := len(l.acked.all())
		wait := l.load(d.starttls, 20)
		l.acked.until(t, "some load", func(acked []int) bool { return len(acked) > before+300 })
		d.terminate()
		wait()
		if _, _, err := idle.ReadResponse(421); err != nil {
			t.Errorf("an idle client is not told: %v", err)
		}
		idle.Close()
		d.start()
	}
	if n := l.arrived(t, next); n != 0 {
		t.Errorf("%d messages arrived twice", n)
	}
	t.Logf("%d messages acknowledged, all delivered once", len(l.acked.all()))
}

// sigkill: whatever was acknowledged before the power went is delivered.
func (p *peers) sigkill(t *testing.T) {
	next := newSink(t, func(s *sink) { s.digest = true })
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	l := &ledger{acked: newFeed[int]()}
	var starts []time.Time
	for range 3 {
		before := len(l.acked.all())
		wait := l.load(d.starttls, 20)
		l.acked.until(t, "some load", func(acked []int) bool { return len(acked) > before+200 })
		d.proc.cmd.Process.Signal(syscall.SIGKILL)
		<-d.proc.exited
		wait()
		starts = append(starts, time.Now())
		d.start()
	}
	duplicates := l.arrived(t, next)
	t.Logf("%d messages acknowledged, none lost, %d delivered twice by %d kills", len(l.acked.all()), duplicates, len(starts))
	// What arrived twice was answered the first time so shortly before a kill
	// that its outcome was not on disk yet: one for each connection at most.
	first := map[string]int{}
	owed := make([]int, len(starts))
	inOrder := slices.SortedFunc(slices.Values(next.mail.all()), func(a, b message) int { return a.since.Compare(b.since) })
	for _, m := range inOrder {
		by := 0 // which of the processes sent it
		for by < len(starts) && !m.since.Before(starts[by]) {
			by++
		}
		before, again := first[m.ledger]
		first[m.ledger] = by
		switch {
		case !again:
		case before == by:
			t.Errorf("message %s was delivered twice, which no kill explains", m.ledger)
		default:
			owed[before]++
		}
	}
	if slices.Max(owed) > connections {
		t.Errorf("the kills brought second copies of %d deliveries; %d connections", owed, connections)
	}
	d.empties()
	d.terminate()
	// A record that a kill took with it is written again at the next start.
	ended := map[string]bool{}
	for _, r := range d.written() {
		if r.Status.Event == "delivered" {
			ended[r.Recipient] = true
		}
	}
	for _, m := range next.mail.all() {
		if !ended["n"+m.ledger+"@example.net"] {
			t.Errorf("message %s was delivered without a record", m.ledger)
		}
	}
}

var peakMemory = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

// big: many submissions of 25 MB at the same time under a small memory limit.
// TACET_PEERS_BIG says how many; the ordinary run takes a few.
func (p *peers) big(t *testing.T) {
	sessions := 40
	if text := os.Getenv("TACET_PEERS_BIG"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		sessions = n
	}
	const size, limit = 25_000_000, 256 << 20
	next := newSink(t, func(s *sink) { s.digest = true })
	d := p.newDaemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	d.env = []string{"GOMEMLIMIT=256MiB"}
	d.start()

	begun := time.Now()
	body := numbered(0, size)
	bodyStart := bytes.Index(body, []byte("\r\n\r\n")) + 4
	sums := map[string][32]byte{}
	errs := make(chan error, sessions)
	var middle, all sync.WaitGroup
	middle.Add(sessions)
	for n := 1; n <= sessions; n++ {
		head := numbered(n, 0)
		head = head[:bytes.Index(head, []byte("\r\n\r\n"))+4]
		sum := sha256.New()
		sum.Write(head[len(ledgerField):])
		sum.Write(body[bodyStart:])
		sums[strconv.Itoa(n)] = [32]byte(sum.Sum(nil))
		all.Go(func() {
			reached := sync.OnceFunc(middle.Done)
			defer reached()
			errs <- func() error {
				s, err := dial(d.implicit, &p.cert)
				if err != nil {
					return err
				}
				defer s.Close()
				s.W = bufio.NewWriterSize(s.conn, 64<<10)
				if err := s.begin("anna@example.org", "bob@example.net"); err != nil {
					return err
				}
				half := bodyStart + (len(body)-bodyStart)/2
				for _, b := range [][]byte{head, body[bodyStart:half]} {
					if _, err := s.W.Write(b); err != nil {
						return err
					}
				}
				if err := s.W.Flush(); err != nil {
					return err
				}
				// All are under way before any one ends.
				reached()
				middle.Wait()
				return s.end(body[half:])
			}()
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Errorf("a submission failed: %v", err)
		}
	}
	accepted := time.Since(begun)
	arrived := next.mail.until(t, "all messages", func(items []message) bool { return len(items) >= sessions })
	for _, m := range arrived {
		if m.sum != sums[m.ledger] {
			t.Errorf("message %s arrived damaged", m.ledger)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.ParseInt(string(peakMemory.FindSubmatch(status)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d × 25 MB: accepted in %v, delivered in %v, peak memory %d MB", sessions, accepted, time.Since(begun), peak>>10)
	if peak<<10 > limit {
		t.Errorf("the peak of memory is %d MB", peak>>10)
	}
}
