package reputation

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// shelf keeps a ledger in memory.
type shelf struct {
	kept  []byte
	saves atomic.Int32
	err   error
}

func (s *shelf) Load() ([]byte, error) { return s.kept, s.err }
func (s *shelf) Save(b []byte) error   { s.saves.Add(1); s.kept = b; return s.err }

func openTestLedger(t *testing.T, s *shelf) *Ledger {
	t.Helper()
	l, err := OpenLedger(s, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// zone answers for the DNS.
type zone struct {
	answers map[string]string
	asked   []string
	err     error
}

func (z *zone) A(_ context.Context, name string, ask func()) ([]netip.Addr, error) {
	if slices.Contains(z.asked, name) && z.err == nil {
		return z.answer(name), nil
	}
	ask()
	z.asked = append(z.asked, name)
	return z.answer(name), z.err
}

func (z *zone) answer(name string) []netip.Addr {
	if text := z.answers[name]; text != "" {
		return []netip.Addr{netip.MustParseAddr(text)}
	}
	return nil
}

func TestLists(t *testing.T) {
	z := &zone{answers: map[string]string{
		"7.113.0.203.ip.test": "127.0.0.2", "9.113.0.203.ip.test": "127.255.255.254", "8.113.0.203.ip.test": "192.0.2.1",
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip.test": "127.0.0.3",
		"bad.example.dom.test": "127.0.1.2", "xn--bcher-kva.example.dom.test": "127.0.1.2",
	}}
	l := NewLists(z, openTestLedger(t, &shelf{}))
	for client, want := range map[string]bool{"203.0.113.7": true, "::ffff:203.0.113.7": true, "2001:db8::7": true, "203.0.113.8": false} {
		if got, err := l.Client(t.Context(), "ip.test", netip.MustParseAddr(client)); got != want || err != nil {
			t.Errorf("%s: %v, %v", client, got, err)
		}
	}
	if got, err := l.Client(t.Context(), "ip.test", netip.MustParseAddr("203.0.113.9")); got || !errors.Is(err, errRefused) {
		t.Errorf("a list that refuses: %v, %v", got, err)
	}
	for domain, want := range map[queue.Domain]bool{"bad.example": true, "b\u00fccher.example": true, "good.example": false, "": false, "[192.0.2.1]": false, "a@b.example": false} {
		if got, err := l.Sender(t.Context(), "dom.test", domain); got != want || err != nil {
			t.Errorf("%s: %v, %v", domain, got, err)
		}
	}
	if n := len(z.asked); n != 4+3 {
		t.Errorf("%d questions were sent: %q", n, z.asked) // a mapped address is the same as the plain one
	}
	if got := l.ledger.Totals(Client); got != (Counts{4, 2, 1}) {
		t.Errorf("clients: %+v", got)
	}
	if got := l.ledger.Totals(Sender); got != (Counts{3, 2, 0}) {
		t.Errorf("senders: %+v", got)
	}
}

func TestHashList(t *testing.T) {
	d := relay.NewDigester()
	if _, err := d.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	// SHA-256 of "abc" (FIPS 180-4), in base32.
	const name = "xj4bnp4pahh6uqkbidpf3lrceoyagyndsylxvhfucd7wd4qacwwq._file.test"
	for answer, want := range map[string]bool{"127.0.3.10": true, "127.0.3.15": false, "": false} {
		z := &zone{answers: map[string]string{name: answer}}
		h := HashList{NewLists(z, openTestLedger(t, &shelf{})), "A list", Attachment, "_file.test", []netip.Prefix{netip.MustParsePrefix("127.0.3.10/32")}}
		if got, err := h.Listed(t.Context(), d.Digest()); got != want || err != nil || !slices.Equal(z.asked, []string{name}) {
			t.Errorf("%q: %v, %v, %q", answer, got, err, z.asked)
		}
	}
}

// A list that does not answer is left alone for a while, and then asked once.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{err: errors.New("away")}
		l := NewLists(z, openTestLedger(t, &shelf{}))
		try := func(n int) {
			for range n {
				if _, err := l.Client(t.Context(), "ip.test", netip.MustParseAddr("203.0.113.7")); err == nil {
					t.Error("no error")
				}
			}
		}
		try(50)
		if len(z.asked) != patience {
			t.Errorf("asked %d times, want %d", len(z.asked), patience)
		}
		time.Sleep(resting)
		try(50)
		if len(z.asked) != patience+1 {
			t.Errorf("after a rest asked %d times, want %d", len(z.asked), patience+1)
		}
		time.Sleep(resting)
		z.err = nil
		for range 10 {
			if _, err := l.Client(t.Context(), "ip.test", netip.MustParseAddr("203.0.113.8")); err != nil {
				t.Error(err)
			}
		}
		if got := l.ledger.Totals(Client); got != (Counts{patience + 2, 0, patience + 1}) {
			t.Errorf("%+v", got)
		}
		if err := l.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The ledger is kept within a minute, in numbers, for a year.
func TestLedgerKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		l := openTestLedger(t, s)
		time.Sleep(time.Hour)
		if s.saves.Load() != 0 {
			t.Error("a ledger of nothing was saved")
		}
		for range 1000 {
			l.count("A list", Attachment, Counts{Asked: 1, Listed: 1})
		}
		time.Sleep(saveAfter)
		synctest.Wait()
		if n := s.saves.Load(); n != 1 {
			t.Errorf("saved %d times", n)
		}
		if got := string(s.kept); got != `[{"day":"2000-01-01","service":"A list","kind":"attachment digest","asked":1000,"listed":1000,"failed":0}]` {
			t.Errorf("kept is %s", got)
		}
		l = openTestLedger(t, s)
		l.count("A list", Attachment, Counts{Failed: 1})
		time.Sleep(keptDays * 24 * time.Hour)
		l.count("B", Text, Counts{Asked: 1})
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.count("B", Text, Counts{Asked: 1})
		lines, err := ReadLedger(s)
		if err != nil || len(lines) != 1 || lines[0] != (Line{"2000-12-31", "B", "text digest", Counts{Asked: 1}}) {
			t.Errorf("%+v, %v", lines, err)
		}
	})
}

func TestLedgerDamaged(t *testing.T) {
	if l, err := OpenLedger(&shelf{kept: []byte("{")}, nil); err == nil || len(l.Lines()) != 0 {
		t.Errorf("%v", err)
	}
	future, err := json.Marshal([]Line{{"2999-01-01", "A", "text digest", Counts{}}, {"not a day", "A", "text digest", Counts{}}})
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := ReadLedger(&shelf{kept: future}); err != nil || len(lines) != 0 {
		t.Errorf("%v, %v", lines, err)
	}
	if _, err := ReadLedger(&shelf{err: errors.New("no disk")}); err == nil {
		t.Error("no error")
	}
}
