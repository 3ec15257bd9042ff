package queue

import (
	"testing"
	"time"
)

func TestScheduleNext(t *testing.T) {
	s := Schedule{Retry: []time.Duration{5 * time.Minute, 10 * time.Minute, time.Hour}}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	id := NewID(now)
	for attempts, wait := range []time.Duration{5 * time.Minute, 5 * time.Minute, 10 * time.Minute, time.Hour, time.Hour} {
		got := s.Next(id, attempts, now).Sub(now)
		if got < wait || got > wait+wait/10 {
			t.Errorf("after attempt %d: %v, want %v and at most a tenth", attempts, got, wait)
		}
		if again := s.Next(id, attempts, now).Sub(now); again != got {
			t.Errorf("after attempt %d: %v, then %v", attempts, got, again)
		}
	}
	spread := map[time.Duration]bool{}
	for range 100 {
		spread[s.Next(NewID(now), 3, now).Sub(now)] = true
	}
	if len(spread) < 90 {
		t.Errorf("100 messages come back at %d times", len(spread))
	}
}

func TestScheduleNextInDoubt(t *testing.T) {
	short := Schedule{Retry: []time.Duration{5 * time.Minute}, Lifetime: 5 * 24 * time.Hour}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s        Schedule
		attempts int
		least    time.Duration
	}{
		{short, 0, time.Hour},
		{short, 1, time.Hour},
		{short, 2, 2 * time.Hour},
		{short, 5, 16 * time.Hour},
		{short, 6, 24 * time.Hour},
		{short, 1000, 24 * time.Hour},
		{Schedule{Retry: []time.Duration{6 * time.Hour}}, 1, 6 * time.Hour},
		{Schedule{Retry: []time.Duration{time.Minute}, Lifetime: time.Hour}, 4, 15 * time.Minute},
	} {
		if got := c.s.NextInDoubt(NewID(now), c.attempts, now).Sub(now); got < c.least || got > c.least+c.least/10 {
			t.Errorf("after attempt %d: %v, want %v", c.attempts, got, c.least)
		}
	}
}

func TestScheduleExpired(t *testing.T) {
	five := Schedule{Retry: []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour}, Lifetime: 5 * 24 * time.Hour}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s        Schedule
		age      time.Duration
		attempts int
		want     bool
	}{
		{five, 4 * 24 * time.Hour, 100, false},
		{five, 5 * 24 * time.Hour, 100, true},
		{five, 56 * 365 * 24 * time.Hour, 1, false}, // a clock that stood at 1970 when it came
		{five, 56 * 365 * 24 * time.Hour, 10, false},
		{five, 56 * 365 * 24 * time.Hour, 15, true},
		{Schedule{Retry: []time.Duration{time.Hour}, Lifetime: time.Minute}, time.Minute, 1, true},
		{Schedule{Retry: []time.Duration{time.Hour}}, 100 * 24 * time.Hour, 100, false}, // no lifetime
	} {
		if got := c.s.Expired(now.Add(-c.age), c.attempts, now); got != c.want {
			t.Errorf("age %v, %d attempts: expired %v", c.age, c.attempts, got)
		}
	}
}

func TestID(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 5_000_000, time.UTC)
	id := NewID(now)
	if !id.Time().Equal(now) {
		t.Errorf("time %v, want %v", id.Time(), now)
	}
	text := id.String()
	if got, err := ParseID(text); err != nil || got != id || len(text) != IDLength {
		t.Errorf("%q read as %v, %v", text, got, err)
	}
	if later := NewID(now.Add(time.Millisecond)).String(); later <= text {
		t.Errorf("%q sorts after %q", text, later)
	}
	for _, bad := range []string{"", "short", text + "0", "UUUUUUUUUUUUUUUU", "../../etc/passwd"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
