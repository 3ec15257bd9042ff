package main_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// books is what the clients know: which messages were acknowledged, which
// refused. Of all others no one can know, for the relay died over them.
type books struct {
	next, reports *sink
	recovered     atomic.Bool // recipients that were put off are taken now

	mu       sync.Mutex
	count    int
	acked    map[int]bool
	refused  map[int]bool
	wrong    []string  // refused for good
	doubtful int       // how many may be refused and delivered: a write that failed may be on the disk
	dark     bool      // the power is off: no answer gets through any more
	synced   time.Time // when the newest of those that are acknowledged began to be sent
	crashes  []crash
	gaps     []string   // recipients of acknowledged messages that got nothing
	changed  *feed[int] // acknowledged, in order
}

// crash is an end of the relay that it did not choose.
type crash struct {
	at     time.Time
	up     time.Time // when it was started again
	forgot bool      // the disk lost what was not synced, too
	synced time.Time // all that the relay had told the queue by then was durable
}

// The recipients of a message, by what the next hop says of them.
const (
	goodRecipient = "good" // taken
	lateRecipient = "late" // 451 until the end
	badRecipient  = "bad"  // 550
)

const bookSender = "anna@reports.example"

// newBooks starts the next hops.
func newBooks(t *testing.T) *books {
	b := &books{acked: map[int]bool{}, refused: map[int]bool{}, changed: newFeed[int]()}
	b.next = newSink(t, func(s *sink) { s.digest = true })
	b.reports = newSink(t)
	b.next.answer(b.verdict)
	return b
}

func (b *books) verdict(verb, line string) string {
	if verb != "RCPT" {
		return ""
	}
	switch {
	case strings.HasPrefix(line, "RCPT TO:<"+badRecipient):
		return "550 5.1.1 no such mailbox"
	case strings.HasPrefix(line, "RCPT TO:<"+lateRecipient) && !b.recovered.Load():
		return "451 4.2.0 later"
	}
	return ""
}

// putOff is a next hop that takes nothing for now, whatever is said to it.
func putOff(verb, _ string) string {
	switch verb {
	case "MAIL":
		return "451 4.3.0 later"
	case "RCPT", "DATA", ".":
		return "503 5.5.1 no transaction"
	}
	return ""
}

func (b *books) config() string {
	return routedTo(b.next, map[string]*sink{"reports.example": b.reports})
}

// bookedSize varies: most are small, some stream through a file.
func bookedSize(n int) int {
	switch {
	case n%40 == 0:
		return 2_000_000
	case n%10 == 0:
		return 300_000
	}
	return 5_000
}

func bookedRecipients(n int) []string {
	var to []string
	if n%4 != 1 {
		to = append(to, fmt.Sprintf("%s%d@example.net", goodRecipient, n))
	}
	if n%4 == 1 || n%4 == 2 {
		to = append(to, fmt.Sprintf("%s%d@example.net", lateRecipient, n))
	}
	if n%5 == 0 {
		to = append(to, fmt.Sprintf("%s%d@example.net", badRecipient, n))
	}
	if n%7 == 0 {
		to = append(to, fmt.Sprintf("%s%d@second.example", goodRecipient, n))
	}
	return to
}

// load submits with many sessions, again and again, until no one greets them
// any more or stop is closed. The returned function waits for that.
func (b *books) load(addr string, sessions int, stop <-chan struct{}) (wait func()) {
	var running sync.WaitGroup
	for range sessions {
		running.Go(func() {
			for {
				s, err := dial(addr, nil)
				if err != nil {
					return
				}
				for b.one(s) {
					select {
					case <-stop:
						s.Close()
						return
					default:
					}
				}
				s.Close()
			}
		})
	}
	return running.Wait
}

// one submits a message. It returns false when the session is over.
func (b *books) one(s *session) bool {
	b.mu.Lock()
	b.count++
	n := b.count
	b.mu.Unlock()
	begun := time.Now()
	err := s.submit(numbered(n, bookedSize(n)), bookSender, bookedRecipients(n)...)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dark {
		return false
	}
	if err == nil {
		b.acked[n] = true
		if begun.After(b.synced) {
			b.synced = begun
		}
		b.changed.add(n)
		return true
	}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		b.refused[n] = true
		if reply.Code/100 != 4 {
			b.wrong = append(b.wrong, fmt.Sprintf("message %d: %v", n, err))
		}
		return reply.Code != 421 && s.say(250, "RSET") == nil
	}
	return false
}

// crashed notes a crash; restarting tells when the relay starts again. forgot
// is for one in which the disk loses what is not synced.
func (b *books) crashed(forgot bool) (restarting func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := crash{at: time.Now(), forgot: forgot, synced: b.synced}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		c.up = time.Now()
		b.crashes = append(b.crashes, c)
	}
}

// lights switches the power off or on, as the clients see it. The kernel takes
// milliseconds to shut a file system down, and an fsync that is under way then
// may still succeed: what is answered meanwhile would not have left the machine.
func (b *books) lights(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dark = !on
}

// settle lets everything go that the next hop has put off, and holds what
// happened to the four promises. damaged is how many messages the relay may
// have set aside.
func (b *books) settle(d *daemon, damaged int) {
	d.t.Helper()
	d.crash() // no answer may change while it is given
	restarting := b.crashed(false)
	b.recovered.Store(true)
	restarting()
	d.launch()
	d.up()
	d.run("queue", "retry", "--all")
	if n := d.drained(); n > damaged {
		d.t.Errorf("%d messages are set aside as damaged, want %d at most", n, damaged)
	} else {
		damaged = n
	}
	b.audit(d.t, damaged)
	for _, to := range b.gaps[:min(len(b.gaps), 5)] {
		d.t.Logf("of %s the log says:\n%s", to, d.logged(to))
	}
}

// logged is what the relay log says of a recipient.
func (d *daemon) logged(recipient string) (lines string) {
	d.t.Helper()
	paths, err := filepath.Glob(d.path("log/relay-*.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			d.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if strings.Contains(line, "\""+recipient+"\"") {
				lines += line
			}
		}
	}
	return lines
}

var ledgerLine = regexp.MustCompile(`(?m)^Ledger: (\d+)\r$`)

// copyOf is a message as one recipient is to get it.
type copyOf struct {
	n  int
	to string
}

// audit compares the books with what the next hops took.
func (b *books) audit(t *testing.T, damaged int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	copies, reported := b.arrivals(t), b.returned(t)
	if len(b.wrong) > 0 {
		t.Errorf("%d messages were refused for good: %v", len(b.wrong), b.wrong[:min(len(b.wrong), 10)])
	}
	lost := map[int]bool{}
	var gaps []string
	for n := range b.acked {
		for _, to := range bookedRecipients(n) {
			gone := len(copies[copyOf{n, to}]) == 0
			if strings.HasPrefix(to, badRecipient) {
				gone = reported[n] == 0
			}
			if gone {
				lost[n] = true
				gaps = append(gaps, to)
			}
		}
	}
	b.gaps = gaps
	if len(lost) > damaged {
		t.Errorf("%d acknowledged messages are lost, %d of %d are set aside: %v", len(lost), damaged, len(b.acked), gaps[:min(len(gaps), 20)])
	}
	refused := map[int]bool{}
	for c := range copies {
		if b.refused[c.n] {
			refused[c.n] = true
		}
	}
	if len(refused) > b.doubtful {
		t.Errorf("%d refused messages were delivered, want %d at most: %v", len(refused), b.doubtful, slices.Sorted(maps.Keys(refused)))
	}
	seconds := b.secondCopies(t, copies)
	second := 0
	for n, times := range reported {
		second += times - 1
		if times > 1+len(b.crashes) {
			t.Errorf("%d reports of message %d", times, n)
		}
	}
	t.Logf("%d submitted, %d acknowledged, %d refused, %d copies at the next hop, %d reports; %d crashes, %s, %d second reports, %d lost, %d set aside",
		b.count, len(b.acked), len(b.refused), len(b.next.mail.all()), len(b.reports.mail.all()), len(b.crashes), seconds, second, len(lost), damaged)
}

// arrival is when a copy came. The sink may take what a relay sent before it
// was killed long after its successor has begun: which of them sent it is told
// by when the connection was greeted.
type arrival struct{ since, taken time.Time }

func (a arrival) compare(b arrival) int {
	return cmp.Or(a.since.Compare(b.since), a.taken.Compare(b.taken))
}

// arrivals tells which copies the next hop took, and when.
func (b *books) arrivals(t *testing.T) map[copyOf][]arrival {
	t.Helper()
	copies := map[copyOf][]arrival{}
	sums := map[int][32]byte{}
	for at, m := range b.next.mail.all() {
		n, err := strconv.Atoi(m.ledger)
		if err != nil {
			t.Fatalf("message %d of the sink is not ours: %v", at, m)
		}
		if _, ok := sums[n]; !ok {
			sums[n] = digestOf(numbered(n, bookedSize(n)))
		}
		if m.sum != sums[n] {
			t.Errorf("message %d arrived altered", n)
		}
		for _, to := range m.to {
			c := copyOf{n, strings.TrimPrefix(strings.SplitN(to, ">", 2)[0], "<")}
			if !slices.Contains(bookedRecipients(n), c.to) {
				t.Errorf("message %d was delivered to %s", n, c.to)
			}
			copies[c] = append(copies[c], arrival{m.since, m.taken})
		}
	}
	return copies
}

// returned counts the reports that came for each message.
func (b *books) returned(t *testing.T) map[int]int {
	t.Helper()
	reported := map[int]int{}
	for _, m := range b.reports.mail.all() {
		found := ledgerLine.FindSubmatch(m.content)
		if found == nil || !strings.HasPrefix(m.from, "<>") {
			t.Errorf("not a report: %v", m)
			continue
		}
		n, _ := strconv.Atoi(string(found[1]))
		to := fmt.Sprintf("%s%d@example.net", badRecipient, n)
		if !bytes.Contains(m.content, []byte(to)) {
			t.Errorf("the report for message %d does not name %s", n, to)
		}
		reported[n]++
	}
	return reported
}

// secondCopies holds that each second copy is owed to the crash that ended the
// relay which had delivered the one before it, and that this relay had not
// recorded that delivery. At a kill those are the deliveries whose final reply
// was under way: one for each connection at most. Where the disk forgets, they
// are also those that no sync had followed. One had, if a message was
// acknowledged that began to be sent after the final reply: their groups are
// committed one after the other.
func (b *books) secondCopies(t *testing.T, copies map[copyOf][]arrival) string {
	t.Helper()
	owed := make([]struct{ recorded, other int }, len(b.crashes))
	seen := map[[2]arrival]bool{}
	longest := time.Duration(0)
	var unfounded []string
	for c, at := range copies {
		slices.SortFunc(at, arrival.compare)
		for i := 1; i < len(at); i++ {
			before := at[i-1]
			if seen[[2]arrival{before, at[i]}] {
				continue // another recipient of the same delivery
			}
			seen[[2]arrival{before, at[i]}] = true
			k := b.endOf(before)
			if k < 0 || k == b.endOf(at[i]) {
				unfounded = append(unfounded, fmt.Sprintf("message %d to %s: copies %v", c.n, c.to, at))
				continue
			}
			if b.crashes[k].forgot && !before.taken.Before(b.crashes[k].synced) {
				owed[k].other++
			} else {
				owed[k].recorded++
			}
			longest = max(longest, b.crashes[k].at.Sub(before.taken))
		}
	}
	if len(unfounded) > 0 {
		t.Errorf("%d second copies without cause: %v", len(unfounded), unfounded[:min(len(unfounded), 5)])
	}
	total, most, unsynced := 0, 0, 0
	for k, n := range owed {
		total, most, unsynced = total+n.recorded+n.other, max(most, n.recorded), max(unsynced, n.other)
		if n.recorded > connections {
			t.Errorf("crash %d brought second copies of %d deliveries that had been recorded, or were one too many to be under way", k, n.recorded-connections)
		}
	}
	return fmt.Sprintf("%d second copies (by one crash %d at most of what was under way, %d of what was not synced; delivered %v before it at most)",
		total, most, unsynced, longest.Round(time.Millisecond))
}

// endOf is the crash that ended the relay which sent a copy, -1 if none did.
func (b *books) endOf(a arrival) int {
	return slices.IndexFunc(b.crashes, func(k crash) bool { return a.since.Before(k.up) })
}

// connections is how many the relay has to the next hop, at most.
const connections = 20

// pause waits for a random part of longest.
func pause(longest time.Duration) { <-time.After(rand.N(longest)) }

// intact tells whether a message at the next hop is as it was submitted.
func (b *books) intact(m message) bool {
	n, err := strconv.Atoi(m.ledger)
	return err == nil && m.sum == digestOf(numbered(n, bookedSize(n)))
}
