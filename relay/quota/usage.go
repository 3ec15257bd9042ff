package quota

import (
	"slices"
	"time"

	"tacet/relay"
)

// Counts are kept by slots of slotLength; the slot in which a window begins counts whole,
// so that a window is never shorter than its name says.
const slotLength = 5 * time.Minute

// windows tells over which time each limit counts.
var windows = [...]time.Duration{
	relay.MessagesPerHour:     time.Hour,
	relay.MessagesPerDay:      24 * time.Hour,
	relay.RecipientsPerHour:   time.Hour,
	relay.RecipientsPerDay:    24 * time.Hour,
	relay.NewRecipientsPerDay: 24 * time.Hour,
}

// slot is what a user sent in five minutes.
type slot struct {
	at                        int64 // slots since 1970
	messages, recipients, new int
}

func slotOf(now time.Time) int64 { return now.Unix() / int64(slotLength/time.Second) }

// within tells whether the slot has a part in the window that ends now.
func (s *slot) within(window time.Duration, now time.Time) bool {
	return s.at > slotOf(now.Add(-window))-1
}

// usage is what one user sent.
type usage struct {
	slots []slot            // the oldest first
	known map[uint64]uint32 // recipients by hash, and the minute of the last message to them
}

// used counts what was sent, by limit.
func (u *usage) used(now time.Time) (used relay.Quota) {
	for i := range u.slots {
		s := &u.slots[i]
		if s.within(24*time.Hour, now) {
			used[relay.MessagesPerDay] += s.messages
			used[relay.RecipientsPerDay] += s.recipients
			used[relay.NewRecipientsPerDay] += s.new
		}
		if s.within(time.Hour, now) {
			used[relay.MessagesPerHour] += s.messages
			used[relay.RecipientsPerHour] += s.recipients
		}
	}
	return used
}

// add counts a message. The clock may have been set back: slots stay in order.
func (u *usage) add(at int64, messages, recipients, fresh int) {
	i, found := slices.BinarySearchFunc(u.slots, at, func(s slot, at int64) int { return int(s.at - at) })
	if !found {
		u.slots = slices.Insert(u.slots, i, slot{at: at})
	}
	s := &u.slots[i]
	s.messages = max(s.messages+messages, 0)
	s.recipients = max(s.recipients+recipients, 0)
	s.new = max(s.new+fresh, 0)
}

// forget drops what no window reaches any more, what lies in a future that a clock set
// back has left, and recipients not written to for as long as they are remembered.
// It tells how many of these, and whether anything at all.
func (u *usage) forget(now time.Time, memory time.Duration) (recipients int, any bool) {
	before := len(u.slots)
	u.slots = slices.DeleteFunc(u.slots, func(s slot) bool { return !s.within(24*time.Hour, now) || s.at > slotOf(now)+1 })
	for hash, minute := range u.known {
		if !remembered(minute, now, memory) {
			delete(u.known, hash)
			recipients++
		}
	}
	return recipients, recipients > 0 || len(u.slots) < before
}

func (u *usage) empty() bool { return len(u.slots)+len(u.known) == 0 }

func minuteOf(now time.Time) uint32 { return uint32(now.Unix() / 60) }

func remembered(minute uint32, now time.Time, memory time.Duration) bool {
	age := now.Sub(time.Unix(int64(minute)*60, 0))
	return age < memory && age > -time.Hour
}
