package quota

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// shelf is a Keeper in memory.
type shelf struct {
	mu    sync.Mutex
	kept  []byte
	saves int
	fails error
}

func (s *shelf) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, nil
}

func (s *shelf) Save(content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	s.kept = content
	s.saves++
	return nil
}

func meter(t testing.TB, keeper Keeper, quota relay.Quota) *Meter {
	t.Helper()
	m, err := New(Config{Quota: func(user string) relay.Quota {
		if user == "free" {
			return relay.Quota{}
		}
		return quota
	}, Memory: 48 * time.Hour, Keeper: keeper})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

func envelope(user string, to ...string) *queue.Envelope {
	e := &queue.Envelope{Origin: queue.Origin{Submission: true, User: user}}
	for _, address := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: queue.ForwardPath(address)})
	}
	return e
}

// many are n recipients, others for each word.
func many(word string, n int) (to []string) {
	for i := range n {
		to = append(to, fmt.Sprintf("%s%d@example.net", word, i))
	}
	return to
}

// charged checks whether a message fits.
func charged(t *testing.T, m *Meter, fits bool, user string, to ...string) {
	t.Helper()
	_, err := m.Charge(envelope(user, to...))
	if r, ok := errors.AsType[*relay.Rejection](err); (err == nil) != fits || err != nil && (!ok || r.Code != 450 || r.Ground != relay.GroundQuota || r.Class != relay.ClassLimit) {
		t.Errorf("%s to %d: %v, want fits %v", user, len(to), err, fits)
	}
}

// Within any hour and any day there is no more than the limit, and room again afterwards.
func TestWindows(t *testing.T) {
	for name, c := range map[string]struct {
		quota  relay.Quota
		window time.Duration
		size   int // recipients of each message
	}{
		"messages per hour":      {relay.Quota{relay.MessagesPerHour: 12}, time.Hour, 1},
		"messages per day":       {relay.Quota{relay.MessagesPerDay: 12}, 24 * time.Hour, 1},
		"recipients per hour":    {relay.Quota{relay.RecipientsPerHour: 36}, time.Hour, 3},
		"recipients per day":     {relay.Quota{relay.RecipientsPerDay: 36}, 24 * time.Hour, 3},
		"new recipients per day": {relay.Quota{relay.NewRecipientsPerDay: 36}, 24 * time.Hour, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meter(t, nil, c.quota)
				defer m.Stop()
				var accepted []time.Time
				for i := range 400 {
					if _, err := m.Charge(envelope("anna", many(fmt.Sprint("r", i, "x"), c.size)...)); err == nil {
						accepted = append(accepted, time.Now())
					}
					time.Sleep(c.window / 97)
				}
				for i := range accepted {
					n := 0
					for _, at := range accepted[i:] {
						if at.Sub(accepted[i]) < c.window {
							n++
						}
					}
					if n > 12 {
						t.Fatalf("%d messages within one window", n)
					}
				}
				if len(accepted) < 40 { // of 12 in each of some four windows
					t.Errorf("only %d were accepted", len(accepted))
				}
			})
		})
	}
}

func TestNewRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meter(t, nil, relay.Quota{relay.NewRecipientsPerDay: 5})
		defer m.Stop()
		charged(t, m, true, "anna", many("friend", 5)...)
		charged(t, m, false, "anna", "stranger@example.net")
		charged(t, m, true, "anna", "FRIEND0@Example.NET", `"friend1"@example.net`)
		charged(t, m, true, "bob", many("friend", 5)...) // bob's friends are his own
		charged(t, m, true, "free", many("x", 5000)...)
		if used, known := m.Used("anna"); known != 5 || used[relay.NewRecipientsPerDay] != 5 || m.Correspondents("friend3@example.net") != 2 {
			t.Errorf("%v, %d", used, known)
		}
		if _, known := m.Used("free"); known != 0 {
			t.Error("recipients of a user without a limit are remembered")
		}
		time.Sleep(25 * time.Hour)
		charged(t, m, true, "anna", "friend0@example.net")
		charged(t, m, true, "anna", many("stranger", 5)...)
		time.Sleep(47 * time.Hour) // friend1 is forgotten, friend0 is not
		charged(t, m, true, "anna", append(many("other", 5), "friend0@example.net")...)
		charged(t, m, false, "anna", "friend1@example.net")
		time.Sleep(49 * time.Hour)
		if used, known := m.Used("anna"); known != 0 || used != (relay.Quota{}) || m.Correspondents("friend0@example.net") != 0 {
			t.Errorf("%v and %d are left", used, known)
		}
		if m.Stats.Remembered.Load() != 0 {
			t.Errorf("%d are remembered", m.Stats.Remembered.Load())
		}
	})
}

// A transaction says which recipients are too many, and nothing counts before Charge.
func TestTransaction(t *testing.T) {
	m := meter(t, nil, relay.Quota{relay.MessagesPerDay: 2, relay.RecipientsPerHour: 10, relay.NewRecipientsPerDay: 3})
	charged(t, m, true, "anna", "known@example.net")
	for range 3 { // given up each time
		tx, err := m.Begin("anna")
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []struct {
			to   string
			fits bool
		}{
			{"a@example.net", true}, {"b@example.net", true}, {"B@example.net", true}, {"c@example.net", false}, {"known@example.net", true},
			{"known@example.net", true}, {"known@example.net", true}, {"known@example.net", true}, {"known@example.net", true},
			{"known@example.net", true}, {"known@example.net", false},
		} {
			if err := tx.Recipient(queue.ForwardPath(c.to)); (err == nil) != c.fits {
				t.Errorf("%d: %s: %v", i, c.to, err)
			}
		}
	}
	charged(t, m, true, "anna", "a@example.net", "b@example.net")
	if tx, err := m.Begin("anna"); err == nil || tx != nil {
		t.Error("a third message is begun")
	}
	if tx, err := m.Begin("free"); err != nil || tx != nil {
		t.Errorf("without a limit: %v, %v", tx, err)
	}
	if m.Stats.Refused[relay.MessagesPerDay].Load() != 1 || m.Stats.Refused[relay.NewRecipientsPerDay].Load() != 3 {
		t.Error("the refusals are not counted")
	}
}

// Sessions at the same time get no more than one after the other, and what is not stored is taken back.
func TestChargeAtTheSameTime(t *testing.T) {
	m := meter(t, nil, relay.Quota{relay.RecipientsPerDay: 100, relay.NewRecipientsPerDay: 100})
	var fitted sync.Map
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			refund, err := m.Charge(envelope("anna", fmt.Sprintf("r%d@example.net", i)))
			switch {
			case err == nil && i%3 == 0:
				refund()
			case err == nil:
				fitted.Store(i, true)
			}
		})
	}
	all.Wait()
	n := 0
	fitted.Range(func(any, any) bool { n++; return true })
	if used, known := m.Used("anna"); n > 100 || used[relay.RecipientsPerDay] != n || known != n || used[relay.NewRecipientsPerDay] != n {
		t.Errorf("%d fitted, %v counted, %d known", n, used, known)
	}
}

// What was counted is there after an end, and after a crash as of a few seconds before.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := &shelf{}
		quota := relay.Quota{relay.MessagesPerDay: 3, relay.NewRecipientsPerDay: 10}
		m := meter(t, keeper, quota)
		charged(t, m, true, "anna@example.org", "bob@example.net")
		time.Sleep(saveAfter + time.Second)
		charged(t, m, true, "anna@example.org", "carl@example.net") // and no more time to save
		m.Stop()
		m = meter(t, keeper, quota)
		used, known := m.Used("anna@example.org")
		if used[relay.MessagesPerDay] != 1 || known != 1 {
			t.Errorf("after a crash: %v, %d", used, known)
		}
		charged(t, m, true, "anna@example.org", "carl@example.net")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"anna", "bob", "carl", "example"} {
			if bytes.Contains(keeper.kept, []byte(name)) {
				t.Errorf("%s stands in what is kept", name)
			}
		}
		m = meter(t, keeper, quota)
		charged(t, m, true, "anna@example.org", "bob@example.net")
		charged(t, m, false, "anna@example.org", "bob@example.net")
		time.Sleep(49 * time.Hour) // nothing is sent, and all of it goes from the disk
		synctest.Wait()
		if strings.Contains(string(keeper.kept), `"id"`) || keeper.saves < 3 {
			t.Errorf("after %d saves there is left %s", keeper.saves, keeper.kept)
		}
		m.Stop()
	})
}

func TestErase(t *testing.T) {
	keeper := &shelf{}
	m := meter(t, keeper, relay.Quota{relay.MessagesPerDay: 5, relay.NewRecipientsPerDay: 5})
	charged(t, m, true, "anna", "bob@example.net", "carl@example.net")
	charged(t, m, true, "bob@example.net", "carl@example.net")
	if n := m.Correspondents("Carl@Example.NET"); n != 2 {
		t.Errorf("%d users have written to carl", n)
	}
	if err := m.Erase("bob@example.net", "bob@example.net", ""); err != nil {
		t.Fatal(err)
	}
	again := meter(t, keeper, relay.Quota{})
	for _, m := range []*Meter{m, again} {
		used, known := m.Used("bob@example.net")
		if used != (relay.Quota{}) || known != 0 || m.Correspondents("bob@example.net") != 0 || m.Correspondents("carl@example.net") != 1 {
			t.Errorf("%v, %d are left", used, known)
		}
	}
	if n := m.Stats.Remembered.Load(); n != 1 {
		t.Errorf("%d are remembered", n)
	}
	keeper.fails = errors.New("no room")
	if err := m.Erase("carl@example.net"); !errors.Is(err, keeper.fails) {
		t.Errorf("an erasure that is not kept ends with %v", err)
	}
}

// What cannot be read begins anew, and says so.
func TestDamagedCounts(t *testing.T) {
	keeper := &shelf{}
	quota := relay.Quota{relay.MessagesPerDay: 1, relay.NewRecipientsPerDay: 5}
	m := meter(t, keeper, quota)
	charged(t, m, true, "anna", "bob@example.net")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	whole := keeper.kept
	for cut := range len(whole) {
		keeper.kept = whole[:cut]
		m, err := New(Config{Quota: func(string) relay.Quota { return quota }, Keeper: keeper, Memory: time.Hour * 48})
		if (err == nil) != (cut == 0) {
			t.Errorf("%d octets: %v", cut, err)
		}
		charged(t, m, true, "anna", "bob@example.net")
		charged(t, m, false, "anna", "bob@example.net")
		m.Stop()
	}
}

func FuzzDecode(f *testing.F) {
	keeper := &shelf{}
	m := meter(f, keeper, relay.Quota{relay.NewRecipientsPerDay: 5})
	if _, err := m.Charge(envelope("anna", "bob@example.net")); err != nil {
		f.Fatal(err)
	}
	if err := m.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(keeper.kept)
	f.Fuzz(func(t *testing.T, content []byte) {
		m := &Meter{users: make(map[userID]*usage)}
		m.memory.Store(int64(48 * time.Hour))
		err := m.decode(content)
		if err != nil && len(m.users) > 0 {
			t.Fatal("a part of it was taken over")
		}
		known := 0
		for _, u := range m.users {
			known += len(u.known)
			for limit, n := range u.used(time.Now()) {
				if n < 0 {
					t.Fatalf("%v is %d", relay.Limit(limit), n)
				}
			}
		}
		if known != m.known {
			t.Fatalf("%d are known, %d counted", known, m.known)
		}
		if again, err := m.encode(); err != nil || m.decode(again) != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}

func BenchmarkCharge(b *testing.B) {
	limits := relay.Quota{relay.MessagesPerHour: relay.MaxLimit, relay.RecipientsPerDay: relay.MaxLimit}
	for name, c := range map[string]struct {
		user  string
		quota relay.Quota
	}{
		"unlimited": {"free", limits}, "messages": {"anna", limits},
		"new recipients": {"anna", relay.Quota{relay.NewRecipientsPerDay: relay.MaxLimit}},
	} {
		b.Run(name, func(b *testing.B) {
			m := meter(b, nil, c.quota)
			e := envelope(c.user, "bob@example.net")
			b.ReportAllocs()
			for b.Loop() {
				if tx, err := m.Begin(c.user); err != nil || tx != nil && tx.Recipient("bob@example.net") != nil {
					b.Fatal(err)
				}
				// Counts that reach a limit are no matter here.
				if _, err := m.Charge(e); err != nil {
					clear(m.users)
				}
			}
		})
	}
}
