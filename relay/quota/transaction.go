package quota

import (
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Transaction is what a user may still send, as one mail transaction meets it.
// It counts nothing for good: that is [Meter.Charge]. Its methods are for one goroutine.
type Transaction struct {
	meter      *Meter
	user       string
	recipients int
	fresh      map[uint64]struct{}
}

// Begin judges a MAIL command of the user. The transaction is nil where there is no limit.
func (m *Meter) Begin(user string) (*Transaction, error) {
	quota := m.config.Quota(user)
	if quota.Unlimited() {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fits(m.of(user), quota, relay.Quota{relay.MessagesPerHour: 1, relay.MessagesPerDay: 1}, time.Now()); err != nil {
		return nil, err
	}
	return &Transaction{meter: m, user: user}, nil
}

// Recipient judges one more recipient that is good otherwise. The client may send to those
// before it all the same (RFC 5321 §4.5.3.1.10).
func (t *Transaction) Recipient(to queue.ForwardPath) error {
	m, now := t.meter, time.Now()
	quota := m.config.Quota(t.user)
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.of(t.user)
	wants := relay.Quota{relay.RecipientsPerHour: t.recipients + 1, relay.RecipientsPerDay: t.recipients + 1}
	var hash uint64
	isNew := false
	if quota[relay.NewRecipientsPerDay] > 0 && m.remembers() > 0 {
		hash = m.recipient(string(to))
		if _, seen := t.fresh[hash]; !seen && !m.knows(u, hash, now) {
			isNew = true
			wants[relay.NewRecipientsPerDay] = len(t.fresh) + 1
		}
	}
	if err := m.fits(u, quota, wants, now); err != nil {
		return err
	}
	t.recipients++
	if isNew {
		if t.fresh == nil {
			t.fresh = make(map[uint64]struct{})
		}
		t.fresh[hash] = struct{}{}
	}
	return nil
}
