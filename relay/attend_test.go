package relay

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// follower answers for a stage what it is told to, and writes down what it was asked.
type follower struct {
	asked  []string
	refuse string // the stage
	err    error
	hang   bool
}

var errRefused = &Rejection{Code: 550, Class: ClassPolicy, Text: "no"}

func (f *follower) ask(ctx context.Context, stage string) (*Rejection, error) {
	f.asked = append(f.asked, stage)
	if stage != f.refuse {
		return nil, nil
	}
	if f.hang {
		<-ctx.Done()
	}
	if f.err != nil {
		return nil, f.err
	}
	return errRefused, nil
}

func (f *follower) Check(context.Context, *Message) (Verdict, error) {
	f.asked = append(f.asked, "check")
	return Verdict{}, nil
}
func (f *follower) Follow(s *Session) Following {
	f.asked = append(f.asked, "follow "+s.Helo)
	return f
}
func (f *follower) Sender(ctx context.Context, _ *queue.Envelope) (*Rejection, error) {
	return f.ask(ctx, "sender")
}
func (f *follower) Recipient(ctx context.Context, e *queue.Envelope, _ *queue.Recipient) (*Rejection, error) {
	if e.ID.IsZero() {
		return nil, errors.New("no ID")
	}
	return f.ask(ctx, "recipient")
}
func (f *follower) Content(ctx context.Context, _ *Message) (Verdict, error) {
	r, err := f.ask(ctx, "content")
	return Verdict{Rejection: r}, err
}
func (f *follower) Reset() { f.asked = append(f.asked, "reset") }
func (f *follower) Close() { f.asked = append(f.asked, "close") }

// attend takes a session as far as it goes: to the error of a stage, or of the whole message.
func attend(t *testing.T, w *world) (err error) {
	t.Helper()
	s := Session{Helo: "client.example"}
	e := envelope()
	a := w.Attend(s, true)
	defer a.Close()
	if err := a.Sender(t.Context(), e); err != nil {
		return err
	}
	to := queue.Recipient{Path: "b@example.net"}
	if err := a.Recipient(t.Context(), e, &to); err != nil {
		return err
	}
	e.Recipients = append(e.Recipients, to)
	s.Attendance = a
	id := e.ID
	got, err := w.Accept(t.Context(), e, strings.NewReader(mailText), s)
	if err == nil && !id.IsZero() && got != id {
		t.Errorf("shown as %v, stored as %v", id, got)
	}
	a.Reset()
	return err
}

// Who follows a session is asked at each stage, and for the content in place of a check; the first no ends it.
func TestAttend(t *testing.T) {
	whole := []string{"follow client.example", "sender", "recipient", "content", "reset", "close"}
	for _, c := range []struct {
		refuse string
		asked  []string
	}{{"", whole}, {"sender", []string{whole[0], "sender", "close"}}, {"recipient", []string{whole[0], "sender", "recipient", "close"}}, {"content", whole}} {
		f := &follower{refuse: c.refuse}
		w := newWorld(t, checking(t, Inspection{Check: f}))
		err := attend(t, w)
		r, _ := errors.AsType[*Rejection](err)
		if (r == errRefused) != (c.refuse != "") || !slices.Equal(f.asked, c.asked) {
			t.Errorf("%s: %v, %v", c.refuse, err, f.asked)
		}
	}
	f, w := &follower{}, newWorld(t)
	if a := w.Attend(Session{}, true); a != nil {
		t.Error("somebody attends without a check")
	}
	w = newWorld(t, checking(t, Inspection{Check: f, Scope: IncomingOnly}, says(Verdict{})))
	if a := w.Attend(Session{}, true); a != nil || !a.Of(netip.Addr{}, "other") {
		t.Error("somebody attends whom it does not concern")
	}
	if err := attend(t, newWorld(t)); err != nil {
		t.Errorf("nobody attends: %v", err)
	}
	w = newWorld(t, checking(t, Inspection{Check: f}))
	if _, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{}); err != nil || !slices.Equal(f.asked, []string{"check"}) {
		t.Errorf("a session that was not followed: %v, %v", err, f.asked)
	}
}

// A follower that fails, or takes too long, is a reason to come back, unless it may be missed: then it hears no more
// of the transaction.
func TestAttendFails(t *testing.T) {
	for _, stage := range []string{"sender", "recipient", "content"} {
		for _, hang := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				f := &follower{refuse: stage, err: errors.New("away"), hang: hang}
				w := newWorld(t, checking(t, Inspection{Check: f, Timeout: 5 * time.Second}))
				start := time.Now()
				if r, ok := errors.AsType[*Rejection](attend(t, w)); !ok || r.Code != 451 || hang != (time.Since(start) == 5*time.Second) {
					t.Errorf("%s: %v after %v", stage, r, time.Since(start))
				}
				f.asked = nil
				w = newWorld(t, checking(t, Inspection{Check: f, Timeout: 5 * time.Second, FailOpen: true}))
				if err := attend(t, w); err != nil || w.Stats.Unchecked.Load() != 1 || w.store.count() != 1 {
					t.Errorf("%s, may be missed: %v", stage, err)
				}
				if i := slices.Index(f.asked, stage); !slices.Equal(f.asked[i+1:], []string{"reset", "close"}) {
					t.Errorf("%s: asked %v", stage, f.asked)
				}
			})
		}
	}
}

// What a check makes of envelope and body is what is stored and on record.
func TestCheckChangesEnvelope(t *testing.T) {
	to := []queue.Recipient{{Path: "c@example.net"}}
	w := newWorld(t, checking(t, says(Verdict{Sender: new(queue.ReversePath("new@example.org")), Recipients: to, Body: []byte("new\r\n")})))
	for _, text := range []string{mailText, mailText + strings.Repeat("a line\r\n", 100000)} {
		id, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(text), Session{})
		if err != nil {
			t.Fatal(err)
		}
		got := w.store.messages[id]
		if got.e.Sender != "new@example.org" || got.e.Recipients[0].Path != "c@example.net" || !strings.HasSuffix(string(got.content), "\r\n\r\nnew\r\n") || strings.Contains(string(got.content), "a line") {
			t.Errorf("stored %+v, %q", got.e, got.content)
		}
	}
	if got := w.journal.events(); got[0] != "accepted c@example.net" {
		t.Errorf("log %v", got)
	}
	w = newWorld(t, checking(t, says(Verdict{Recipients: []queue.Recipient{}})))
	_, err := w.Accept(t.Context(), envelope("b@example.net"), strings.NewReader(mailText), Session{})
	if r, ok := errors.AsType[*Rejection](err); !ok || r.Code != 550 || w.store.count() != 0 || len(w.journal.records) != 1 {
		t.Errorf("without a recipient: %v", err)
	}
}
