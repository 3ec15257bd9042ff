package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// checkFunc is a check made of a function.
type checkFunc func(context.Context, *Message) (Verdict, error)

func (f checkFunc) Check(ctx context.Context, m *Message) (Verdict, error) { return f(ctx, m) }

func checking(t *testing.T, checks ...Inspection) func(*Config) {
	dir := t.TempDir()
	return func(c *Config) { c.Checks, c.SpoolDir = checks, dir }
}

func says(v Verdict) Inspection {
	return Inspection{Check: checkFunc(func(context.Context, *Message) (Verdict, error) { return v, nil })}
}

// Header fields reach the log with a refusal for content, and with no other.
func TestHeadersOfRefusals(t *testing.T) {
	for class := ClassPolicy; class <= ClassShutdown; class++ {
		for _, code := range []int{451, 550} {
			w := newWorld(t, checking(t, says(Verdict{Rejection: &Rejection{Code: code, Class: class, Text: "no"}})))
			_, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{})
			if r, ok := errors.AsType[*Rejection](err); !ok || r.Code != code {
				t.Fatalf("class %d: got %v", class, err)
			}
			rec := w.journal.records[0]
			if class == ClassContent {
				want := logging.HeaderField{Name: "From", Value: "a@example.org"}
				if rec.Event != logging.ContentRejected || len(rec.Headers) == 0 || !slices.Contains(rec.Headers, want) {
					t.Errorf("content: %+v", rec)
				}
			} else if rec.Event != logging.Rejected || rec.Headers != nil {
				t.Errorf("class %d: %+v", class, rec)
			}
			if w.store.count() != 0 || len(w.journal.records) != 1 {
				t.Error("something was kept, or recorded twice")
			}
		}
	}
}

// No other way to be refused carries header fields either.
func TestHeadersOfOtherRefusals(t *testing.T) {
	pass := says(Verdict{})
	bare := &Rejection{Code: 550, Class: ClassSyntax, Text: "bare LF"}
	for name, c := range map[string]struct {
		content io.Reader
		check   Inspection
		put     error
	}{
		"loop":         {strings.NewReader(strings.Repeat("Received: x\r\n", 51) + mailText), pass, nil},
		"huge header":  {strings.NewReader("Subject: hello\r\n" + strings.Repeat("X: y\r\n", 50000)), pass, nil},
		"full":         {strings.NewReader(mailText), pass, queue.ErrFull},
		"broken":       {strings.NewReader(mailText), pass, errors.New("x")},
		"framing":      {io.MultiReader(strings.NewReader(mailText), iotest.ErrReader(bare)), pass, nil},
		"late framing": {io.MultiReader(strings.NewReader(mailText+strings.Repeat("x\r\n", 200000)), iotest.ErrReader(bare)), pass, nil},
		"check failed": {strings.NewReader(mailText), fails(errors.New("x")), nil},
		"check panics": {strings.NewReader(mailText), Inspection{Check: checkFunc(func(context.Context, *Message) (Verdict, error) { panic("x") })}, nil},
		"added too much": {strings.NewReader(mailText),
			says(Verdict{Added: []byte(strings.Repeat("X: y\r\n", MaxHeader/6+1))}), nil},
	} {
		w := newWorld(t, checking(t, c.check))
		w.store.putErr = c.put
		_, err := w.Accept(t.Context(), envelope("b@example.net"), c.content, Session{})
		if _, ok := errors.AsType[*Rejection](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
		if len(w.journal.records) != 1 || w.journal.records[0].Event != logging.Rejected || w.journal.records[0].Headers != nil {
			t.Errorf("%s: %+v", name, w.journal.records)
		}
	}
	w := newWorld(t)
	w.Refuse(Refusal{Kind: RefusedMail, Stage: queue.StageRcpt, Rejection: &Rejection{Code: 550, Class: ClassPolicy, Ground: GroundGreylist}})
	w.Refuse(Refusal{Kind: RefusedAuth, Stage: queue.StageAuth, Rejection: &Rejection{Code: 535, Class: ClassContent}})
	if r := w.journal.records; r[0].Headers != nil || r[0].Reason != logging.ReasonGreylisted || r[1].Event != logging.AuthFailed || r[1].Headers != nil {
		t.Errorf("%+v", r)
	}
}

func fails(err error) Inspection {
	return Inspection{Check: checkFunc(func(context.Context, *Message) (Verdict, error) { return Verdict{}, err })}
}

// A check that fails is a reason to come back, unless it may be missed.
func TestCheckFailure(t *testing.T) {
	failed := 0
	w := newWorld(t, checking(t, fails(errors.New("no scanner"))), func(c *Config) { c.CheckFailed = func(error) { failed++ } })
	_, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{})
	if r, ok := errors.AsType[*Rejection](err); !ok || r.Code != 451 || w.store.count() != 0 || failed != 1 {
		t.Errorf("got %v, failed %d", err, failed)
	}
	open := fails(errors.New("no scanner"))
	open.FailOpen = true
	w = newWorld(t, checking(t, open))
	if _, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{}); err != nil || w.Stats.Unchecked.Load() != 1 {
		t.Errorf("got %v, unchecked %d", err, w.Stats.Unchecked.Load())
	}
}

// No check holds a session longer than its time.
func TestCheckTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, swallow := range []bool{false, true} {
			slow := Inspection{Timeout: 20 * time.Second, Check: checkFunc(func(ctx context.Context, _ *Message) (Verdict, error) {
				<-ctx.Done()
				if swallow {
					return Verdict{}, nil
				}
				return Verdict{}, ctx.Err()
			})}
			w := newWorld(t, checking(t, slow))
			start := time.Now()
			_, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{})
			if r, ok := errors.AsType[*Rejection](err); !ok || r.Code != 451 || time.Since(start) != 20*time.Second {
				t.Errorf("got %v after %v", err, time.Since(start))
			}
		}
	})
}

// What checks say of a message is in what is relayed, whatever its size; each sees
// what those before it said, and reads the content as often as it likes.
func TestCheckedContent(t *testing.T) {
	for _, size := range []int{0, 100, headBuffer, queue.InMemory - 100, queue.InMemory, 1 << 20, 1<<20 + spoolChunk} {
		body := make([]byte, size)
		rand.Read(body)
		text := append([]byte("From: a@example.org\r\nX-Old: 1\r\nDate: x\r\nMessage-ID: <x>\r\n\r\n"), body...)
		first := says(Verdict{Added: []byte("A: 1\r\n")})
		second := Inspection{Check: checkFunc(func(_ context.Context, m *Message) (Verdict, error) {
			for range 2 {
				if got, err := io.ReadAll(m.Whole()); err != nil || !bytes.Equal(got, append([]byte("A: 1\r\n"), text...)) {
					t.Errorf("%d octets: the check saw %d octets, %v", size, len(got), err)
				}
			}
			if m.Size != int64(len(text)) {
				t.Errorf("size %d, want %d", m.Size, len(text))
			}
			return Verdict{Added: []byte("B: 2\r\n"), Header: []byte("From: a@example.org\r\nX-New: 2\r\n")}, nil
		})}
		other := Inspection{Scope: IncomingOnly, Check: fails(errors.New("not for this mail")).Check}
		w := newWorld(t, checking(t, first, second, other))
		id, err := w.Accept(t.Context(), envelope("b@example.net"), bytes.NewReader(text), Session{Protocol: "ESMTPSA"})
		if err != nil {
			t.Fatal(err)
		}
		got := w.store.messages[id].content
		if !bytes.HasPrefix(got, []byte("B: 2\r\nA: 1\r\nReceived: by relay.example.org")) ||
			!bytes.HasSuffix(got, append([]byte("\r\nFrom: a@example.org\r\nX-New: 2\r\n\r\n"), body...)) {
			t.Errorf("%d octets: relayed %.300q", size, got)
		}
		if left, err := os.ReadDir(w.config.Load().SpoolDir); err != nil || len(left) != 0 {
			t.Errorf("left in the spool: %v %v", left, err)
		}
	}
}

// A message that a check wants held is accepted and waits for an operator.
func TestCheckHolds(t *testing.T) {
	w := newWorld(t, checking(t, says(Verdict{Hold: true})))
	id, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{})
	if err != nil || w.store.messages[id].e.Recipients[0].State != queue.Held {
		t.Fatalf("got %v", err)
	}
	if got := strings.Join(w.journal.events(), ", "); got != "accepted b@example.net, held b@example.net" {
		t.Errorf("log %s", got)
	}
}

// A content that cannot be spooled is not accepted unseen.
func TestSpoolFails(t *testing.T) {
	w := newWorld(t, checking(t, says(Verdict{})), func(c *Config) { c.SpoolDir += "/missing" })
	_, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText+strings.Repeat("x\r\n", 200000)), Session{})
	if r, ok := errors.AsType[*Rejection](err); !ok || r.Code != 451 || w.store.count() != 0 {
		t.Errorf("got %v", err)
	}
}

// What was changed on the disk in the meantime is not taken for the message, and
// nothing in the file can be read.
func TestSpoolSealed(t *testing.T) {
	text := bytes.Repeat([]byte("canary "), 30000)
	s, from, disk := newSpool(t.TempDir(), bytes.NewReader(text))
	if from != nil || disk != nil {
		t.Fatal(from, disk)
	}
	defer s.close()
	if got, err := io.ReadAll(iotest.OneByteReader(s.reader())); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("read %d octets, %v", len(got), err)
	}
	raw := make([]byte, len(text)+64)
	if n, _ := s.file.ReadAt(raw, 0); n < len(text) || bytes.Contains(raw, []byte("canary")) {
		t.Errorf("%d octets on the disk, or readable ones", n)
	}
	if _, err := s.file.WriteAt([]byte{raw[100] ^ 1}, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(s.reader()); !errors.Is(err, errSpoolDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

func TestFields(t *testing.T) {
	var got []string
	for f := range Fields([]byte("A: 1\r\nb :\r\n 2\r\n\t3\r\nno field\r\n more\r\nC:\r\nD: end")) {
		got = append(got, string(f.Name)+"="+string(f.Unfolded()))
	}
	if want := "A=1,b=2\t3,=,C=,D=end"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", strings.Join(got, ","), want)
	}
}
