package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// world is a relay with everything around it faked.
type world struct {
	*Relay
	store   *memoryStore
	journal *journal
	hop     *hop
	limits  atomic.Pointer[Limits] // of every destination; nil: none
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	c := Config{
		Hostname: "relay.example.org", Postmaster: "postmaster@example.org",
		Schedule: queue.Schedule{Retry: []time.Duration{5 * time.Minute, 10 * time.Minute}, Lifetime: time.Hour},
	}
	for _, f := range change {
		f(&c)
	}
	w := &world{journal: &journal{}, hop: &hop{}}
	w.store = &memoryStore{messages: map[queue.ID]*stored{}, route: domains(nil).Destination}
	w.Relay = New(c, w.store, nil, domains(w.limits.Load), w.hop, w.journal)
	return w
}

// deliver runs the relay until nothing more happens, then stops it.
func (w *world) deliver(t *testing.T, wait time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), wait)
	defer stop()
	w.Run(ctx)
}

// only is a set of one relay domain.
func only(name queue.Domain) func(queue.Domain) bool {
	return func(d queue.Domain) bool { return d == name }
}

// domains routes by domain alone.
type domains func() *Limits

func (d domains) Limits(queue.Destination) Limits {
	if l := d(); l != nil {
		return *l
	}
	return Limits{}
}

func (domains) Destination(to queue.ForwardPath) queue.Destination {
	return queue.Destination(strings.ToLower(string(to.Domain())))
}

type journal struct {
	mu      sync.Mutex
	records []logging.Record
	down    error
}

func (j *journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.down
}

// fail makes the journal unwritable, or well again.
func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.down = err
}

func (j *journal) Secure() {}

func (j *journal) Write(r *logging.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, *r)
	return nil
}

func (j *journal) events() (out []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		out = append(out, r.Event.String()+" "+r.Recipient)
	}
	return out
}

// hop is a transport that answers as its function says.
type hop struct {
	mu     sync.Mutex
	answer func(c *queue.Claim) Result
	got    []*queue.Claim
}

func (h *hop) Deliver(ctx context.Context, c *queue.Claim) Result {
	h.mu.Lock()
	h.got = append(h.got, c)
	answer := h.answer
	h.mu.Unlock()
	if answer == nil {
		return answered(c, queue.Reply{Code: 250, Enhanced: queue.Enhanced{2, 0, 0}, Stage: queue.StageEnd})
	}
	return answer(c)
}

func answered(c *queue.Claim, reply queue.Reply) Result {
	res := Result{Host: netip.MustParseAddr("192.0.2.1"), TLS: queue.TLS{None: queue.NoTLSNotOffered}}
	for range c.Recipients {
		res.Replies = append(res.Replies, reply)
	}
	return res
}

func envelope(to ...queue.ForwardPath) *queue.Envelope {
	e := &queue.Envelope{Sender: "a@example.org", Origin: queue.Origin{Submission: true, User: "ann", Client: netip.MustParseAddr("198.51.100.7")}}
	for _, p := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: p})
	}
	return e
}

const mailText = "From: a@example.org\r\nSubject: hello\r\nBcc: secret@example.net,\r\n more@example.net\r\nTo: b@example.net\r\n\r\nbody\r\n.dot\r\n"

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"})
		if err != nil {
			t.Fatal(err)
		}
		want := "Received: by relay.example.org with ESMTPSA id " + id.String() + "\r\n\tfor <b@example.net>;\r\n\tSat, 01 Jan 2000 00:00:00 +0000\r\n" +
			"Date: Sat, 01 Jan 2000 00:00:00 +0000\r\nMessage-ID: <" + id.String() + "@relay.example.org>\r\n" +
			"From: a@example.org\r\nSubject: hello\r\nTo: b@example.net\r\n\r\nbody\r\n.dot\r\n"
		if got := string(w.store.messages[id].content); got != want {
			t.Errorf("stored\n%s\nwant\n%s", got, want)
		}
		if got := w.journal.records[0]; got.Subject != "hello" || got.User != "ann" || got.ID != id.String() || got.Recipient != "b@example.net" {
			t.Errorf("record %+v", got)
		}
	})
}

// TLS-Required: No comes with the envelope, unless REQUIRETLS outweighs it.
func TestAcceptTLSRequired(t *testing.T) {
	for _, require := range []bool{false, true} {
		w := newWorld(t)
		e := envelope("b@example.net")
		e.RequireTLS = require
		id, err := w.Accept(t.Context(), e, strings.NewReader("TLS-Required: No\r\n"+mailText), Session{Protocol: "ESMTPSA"})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.store.messages[id].e; got.TLSOptional == require || got.RequireTLS != require {
			t.Errorf("%+v", got)
		}
	}
}

// A submission that comes by an mx listener is not changed, nor does its
// client reach the log.
func TestAcceptFromServer(t *testing.T) {
	w := newWorld(t)
	e := envelope("b@example.net", "c@example.net")
	e.Origin = queue.Origin{}
	id, err := w.Accept(t.Context(), e, strings.NewReader(mailText), Session{Protocol: "ESMTP"})
	if err != nil {
		t.Fatal(err)
	}
	got := w.store.messages[id].content
	if !bytes.HasSuffix(got, []byte(mailText)) || bytes.Contains(got, []byte("for <")) || bytes.Contains(got, []byte("Message-ID")) {
		t.Errorf("stored %q", got)
	}
	if n := len(w.journal.records); n != 2 {
		t.Errorf("%d records, want one for each recipient", n)
	}
}

func TestAcceptLarge(t *testing.T) {
	for _, size := range []int{headBuffer - 1, headBuffer, headBuffer + 1, queue.InMemory - maxAdded, queue.InMemory, 3 << 20} {
		w := newWorld(t)
		head := "From: a@example.org\r\nDate: x\r\nMessage-ID: <x>\r\n\r\n"
		text := head + strings.Repeat("x", size-len(head)-2) + "\r\n"
		id, err := w.Accept(t.Context(), envelope("b@example.net"), iotest.HalfReader(strings.NewReader(text)), Session{Protocol: "ESMTPSA"})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.store.messages[id].content; !bytes.HasSuffix(got, []byte(text)) {
			t.Errorf("%d octets: stored %d, and not what was sent", size, len(got))
		}
	}
}

func TestAcceptRefuses(t *testing.T) {
	full := errors.Join(errors.New("put"), queue.ErrFull)
	bare := &Rejection{Code: 550, Enhanced: queue.Enhanced{5, 6, 0}, Class: ClassSyntax, Text: "bare LF"}
	for name, c := range map[string]struct {
		content io.Reader
		put     error
		code    int
	}{
		"loop":         {content: strings.NewReader(strings.Repeat("Received: x\r\n", 51) + mailText), code: 554},
		"huge header":  {content: io.MultiReader(strings.NewReader("Subject: hello\r\n"+strings.Repeat("X: y\r\n", 50000)), strings.NewReader("\r\n")), code: 552},
		"disk full":    {content: strings.NewReader(mailText), put: full, code: 452},
		"store broken": {content: strings.NewReader(mailText), put: errors.New("x"), code: 451},
		"framing":      {content: io.MultiReader(strings.NewReader(mailText), iotest.ErrReader(bare)), code: 550},
		"late framing": {content: io.MultiReader(strings.NewReader(mailText+strings.Repeat("x\r\n", 200000)), iotest.ErrReader(bare)), code: 550},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.store.putErr = c.put
			_, err := w.Accept(t.Context(), envelope("b@example.net"), c.content, Session{Protocol: "ESMTPSA"})
			rejection, ok := errors.AsType[*Rejection](err)
			if !ok || rejection.Code != c.code {
				t.Fatalf("got %v, want %d", err, c.code)
			}
			if w.store.count() != 0 {
				t.Error("something was stored")
			}
			if got := w.journal.events(); len(got) != 1 || got[0] != "rejected b@example.net" {
				t.Errorf("log %q", got)
			}
			if got := w.journal.records[0].Subject; got != "hello" {
				t.Errorf("the line about the refusal has the subject %q", got)
			}
		})
	}
}

// A connection that breaks while the content is read is no refusal: nobody is
// there to hear it.
func TestAcceptBrokenConnection(t *testing.T) {
	w := newWorld(t)
	_, err := w.Accept(t.Context(), envelope("b@example.net"), io.MultiReader(strings.NewReader(mailText), iotest.ErrReader(io.ErrUnexpectedEOF)), Session{Protocol: "ESMTPSA"})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if w.store.count() != 0 || len(w.journal.records) != 0 {
		t.Error("something was kept or recorded")
	}
}

func TestAdmit(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Relays = only("example.net")
	})
	trusted, stranger := netip.MustParseAddr("::ffff:192.0.2.9"), netip.MustParseAddr("203.0.113.1")
	for _, c := range []struct {
		mx   bool
		o    queue.Origin
		to   queue.ForwardPath
		code int
	}{
		{false, queue.Origin{Submission: true, User: "ann", Client: stranger}, "x@anywhere.example", 0},
		{false, queue.Origin{Submission: true, Client: trusted}, "x@anywhere.example", 0},
		{false, queue.Origin{Submission: true, Client: stranger}, "x@anywhere.example", 530},
		{false, queue.Origin{Client: trusted}, "x@example.net", 530},
		{true, queue.Origin{}, "x@example.net", 0},
		{true, queue.Origin{}, "Postmaster", 0},
		{true, queue.Origin{}, "x@example.org", 550},
		{true, queue.Origin{}, `"x@example.net"@example.org`, 550},
		{true, queue.Origin{}, "x@sub.example.net", 550},
	} {
		err := w.Admit(c.mx, &c.o, "a@example.org", c.to)
		code := 0
		if rejection, ok := errors.AsType[*Rejection](err); ok {
			code = rejection.Code
		}
		if code != c.code {
			t.Errorf("mx=%v %+v to %s: %d, want %d", c.mx, c.o, c.to, code, c.code)
		}
	}
}

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.Accept(t.Context(), envelope("b@one.example", "c@one.example", "d@two.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, time.Minute)
		if w.store.count() != 0 {
			t.Error("something is left in the queue")
		}
		if len(w.hop.got) != 2 {
			t.Errorf("%d transactions, want one for each destination", len(w.hop.got))
		}
		if n := w.Stats.Delivered.Load(); n != 3 {
			t.Errorf("%d delivered", n)
		}
	})
}

// While the relay runs a new message is on its way at once, also when all
// workers of its lane have been waiting.
func TestDeliverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		synctest.Wait()
		for range 20 {
			began := time.Now()
			for range 3 {
				if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if w.store.count() != 0 || time.Since(began) != 0 {
				t.Fatalf("%d left after %v", w.store.count(), time.Since(began))
			}
			time.Sleep(700 * time.Millisecond) // of the fake clock: some workers park, some leave
		}
	})
}

func TestDeferAndExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hop.answer = func(c *queue.Claim) Result {
			return answered(c, queue.Reply{Code: 451, Stage: queue.StageRcpt})
		}
		e := envelope("b@one.example")
		e.Sender = ""
		if _, err := w.Accept(t.Context(), e, strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, 3*time.Hour)
		if w.store.count() != 0 {
			t.Error("it did not expire")
		}
		events := w.journal.events()
		if last := events[len(events)-1]; last != "expired b@one.example" {
			t.Errorf("ended with %q", last)
		}
		if n := len(w.hop.got); n < 6 || n > 8 {
			t.Errorf("%d attempts in an hour of 5, 10, 10 … minutes", n)
		}
	})
}

// What the next hop may have taken waits longer than what it has not: each
// further attempt may be a duplicate.
func TestAmbiguousWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Schedule.Lifetime = 5 * 24 * time.Hour })
		var at []time.Time
		w.hop.answer = func(c *queue.Claim) Result {
			at = append(at, time.Now())
			return answered(c, queue.Reply{Cause: queue.CauseAmbiguous, Stage: queue.StageEnd})
		}
		if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, 24*time.Hour)
		if len(at) != 5 || at[1].Sub(at[0]) < time.Hour || at[2].Sub(at[1]) < 2*time.Hour {
			t.Errorf("attempts at %v", at)
		}
		for _, r := range w.journal.records[1:] {
			if r.Event != logging.Deferred || r.Reason != logging.ReasonAmbiguous || r.Stage != logging.StageEnd || !r.NextAttempt.After(r.Time.Add(59*time.Minute)) {
				t.Errorf("on record as %v %v, next at %v", r.Event, r.Reason, r.NextAttempt)
			}
		}
	})
}

// A destination without a host that answers is probed, not hammered, and its
// mail leaves at once when a host is back.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Schedule.Lifetime = 5 * 24 * time.Hour })
		down := true
		w.hop.answer = func(c *queue.Claim) Result {
			if down {
				return unreached(c, queue.CauseRefused)
			}
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		for range 200 {
			if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		time.Sleep(time.Hour)
		synctest.Wait()
		w.hop.mu.Lock()
		attempts := len(w.hop.got)
		down = false
		w.hop.mu.Unlock()
		if attempts < 5 || attempts > 60 {
			t.Errorf("%d attempts in an hour at a dead destination", attempts)
		}
		time.Sleep(longestSuspension + time.Minute)
		synctest.Wait()
		if n := w.store.count(); n > 5 {
			t.Errorf("%d of 200 left when the host was back for 11 minutes", n)
		}
	})
}

// A settlement that cannot be recorded is tried again, and nothing else is
// delivered by that worker meanwhile.
func TestUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.setErr = errors.New("read-only file system")
		if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, time.Minute)
		if len(w.hop.got) != 1 || w.store.count() != 0 {
			t.Errorf("%d attempts, %d left", len(w.hop.got), w.store.count())
		}
		if w.Stats.Unsettled.Load() != 1 {
			t.Error("not counted")
		}
	})
}

// An attempt that the relay's own stop ended counts as none.
func TestStopDuringAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		w.hop.answer = func(c *queue.Claim) Result {
			<-ctx.Done()
			return unreached(c, queue.CauseShutdown)
		}
		if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { w.Run(ctx); close(done) }()
		synctest.Wait()
		stop()
		<-done
		if w.store.count() != 1 || len(w.store.settled) != 0 {
			t.Error("the attempt was settled")
		}
	})
}

// A refused recipient is reported to the sender in the same step that settles
// it, and the report is delivered; nothing answers a null reverse-path.
func TestReportOnSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sender := range []queue.ReversePath{"a@example.org", ""} {
			w := newWorld(t)
			var report string
			w.hop.answer = func(c *queue.Claim) Result {
				if c.Destination == "example.org" {
					report = string(c.Content.Head)
					return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
				}
				return answered(c, queue.Reply{Code: 550, Enhanced: queue.Enhanced{5, 1, 1}, Text: "no such user", Stage: queue.StageRcpt})
			}
			e := envelope("b@one.example")
			e.Sender = sender
			if _, err := w.Accept(t.Context(), e, strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
				t.Fatal(err)
			}
			w.deliver(t, time.Minute)
			if w.store.count() != 0 {
				t.Errorf("%d left", w.store.count())
			}
			want := []string{"accepted b@one.example", "failed b@one.example"}
			if sender != "" {
				want = []string{"accepted b@one.example", "failed b@one.example", "accepted a@example.org", "delivered a@example.org"}
				if !strings.Contains(report, "b@one.example") || !strings.Contains(report, "Subject: hello") || strings.Contains(report, "body") || strings.Contains(report, "secret@") {
					t.Errorf("report:\n%s", report)
				}
			}
			if got := w.journal.events(); strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("sender %q: log %q, want %q", sender, got, want)
			}
		}
	})
}

func TestDelayWarningOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Schedule.DelayWarning = 15 * time.Minute })
		reports := 0
		w.hop.answer = func(c *queue.Claim) Result {
			if c.Destination == "example.org" {
				reports++
				return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
			}
			return answered(c, queue.Reply{Code: 451, Stage: queue.StageRcpt})
		}
		if _, err := w.Accept(t.Context(), envelope("b@one.example"), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, 55*time.Minute)
		if reports != 1 {
			t.Errorf("%d warnings, want one", reports)
		}
	})
}

// A message that makes the transport panic is deferred; the others flow.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hop.answer = func(c *queue.Claim) Result {
			if c.Envelope.Recipients[0].Path == "poison@one.example" {
				panic("poison")
			}
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		}
		for _, to := range []queue.ForwardPath{"poison@one.example", "b@one.example", "c@one.example"} {
			if _, err := w.Accept(t.Context(), envelope(to), strings.NewReader(mailText), Session{Protocol: "ESMTPSA"}); err != nil {
				t.Fatal(err)
			}
		}
		w.deliver(t, time.Minute)
		if w.store.count() != 1 || w.Stats.Delivered.Load() != 2 || w.Stats.Panics.Load() != 1 {
			t.Errorf("%d left, %d delivered, %d panics", w.store.count(), w.Stats.Delivered.Load(), w.Stats.Panics.Load())
		}
	})
}
