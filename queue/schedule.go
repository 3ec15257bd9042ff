package queue

import (
	"encoding/binary"
	"time"
)

// Schedule says when a deferred recipient is tried again and when the relay
// gives up. All its methods are pure functions.
type Schedule struct {
	Retry        []time.Duration // waits after the first, second … attempt; the last repeats
	Lifetime     time.Duration   // after it the recipient expires
	DelayWarning time.Duration   // after it the sender is told once; 0: never
}

// Next is when the recipient of the message is tried again after its
// attempts-th attempt (from 1) ended at now. A jitter of up to a tenth, fixed
// by the message and the attempt so that a restart does not change it, keeps messages
// that were deferred together from coming back together.
func (s Schedule) Next(id ID, attempts int, now time.Time) time.Time {
	if len(s.Retry) == 0 {
		return now.Add(5 * time.Minute)
	}
	wait := s.Retry[min(max(attempts, 1), len(s.Retry))-1]
	seed := binary.BigEndian.Uint32(id[6:]) * 2654435761 * uint32(attempts|1)
	jitter := time.Duration(uint64(wait) / 10 * uint64(seed>>16) >> 16)
	return now.Add(wait + jitter)
}

// NextInDoubt is [Schedule.Next] for a recipient whose attempt ended ambiguously:
// the next hop may have the message, and each further attempt may be a duplicate. So
// it waits an hour, twice as long after each attempt and at most a day, that what
// broke the answer may be mended first; and always leaves room for a few attempts.
func (s Schedule) NextInDoubt(id ID, attempts int, now time.Time) time.Time {
	wait := min(time.Hour<<min(max(attempts, 1)-1, 5), 24*time.Hour)
	if s.Lifetime > 0 {
		wait = min(wait, s.Lifetime/4)
	}
	next := s.Next(id, attempts, now)
	if doubt := now.Add(wait); doubt.After(next) {
		return doubt
	}
	return next
}

// Expired tells whether the relay gives up at now, after the recipient's
// attempts-th attempt. The lifetime alone does not decide it: a clock that was
// wrong when the message came, or is wrong now, must not end mail that was hardly tried. So a
// few attempts are owed to each recipient, as many as half a day of the
// schedule or half of the lifetime has room for.
func (s Schedule) Expired(arrived time.Time, attempts int, now time.Time) bool {
	return s.Old(arrived, now) && attempts >= s.owed()
}

// Old tells whether the message's lifetime is over at now.
func (s Schedule) Old(arrived, now time.Time) bool {
	return s.Lifetime > 0 && now.Sub(arrived) >= s.Lifetime
}

func (s Schedule) owed() int {
	n := 1
	for left := min(12*time.Hour, s.Lifetime/2); n < 100; n++ {
		wait := 5 * time.Minute
		if len(s.Retry) > 0 {
			wait = s.Retry[min(n, len(s.Retry))-1]
		}
		if left -= wait; left < 0 || wait <= 0 {
			break
		}
	}
	return n
}

// WarnDue tells whether the sender should hear that the message is late.
func (s Schedule) WarnDue(arrived, now time.Time) bool {
	return s.DelayWarning > 0 && now.Sub(arrived) >= s.DelayWarning
}
