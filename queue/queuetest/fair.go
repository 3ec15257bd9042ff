package queuetest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tacet/queue"
)

// testFair: one sender's many messages do not keep those of others waiting,
// whether it is a user, a client or a reverse-path that tells them apart.
func testFair(t *testing.T, s Engine) {
	const many = 300
	now := time.Now().Add(-time.Minute)
	tag := func(e *queue.Envelope, kind, who int) {
		switch kind {
		case 0:
			e.Origin.User = fmt.Sprintf("user%d", who)
			e.Sender = queue.ReversePath(fmt.Sprintf("%s@example.org", e.ID))
		case 1:
			e.Origin.Client = netip.AddrFrom4([4]byte{192, 0, 2, byte(who)})
			e.Sender = queue.ReversePath(fmt.Sprintf("%s@example.org", e.ID))
		case 2:
			e.Sender = queue.ReversePath(fmt.Sprintf("sender%d@example.org", who))
		}
	}
	for kind := range 3 {
		for i := range many {
			e := message(now.Add(time.Duration(i)*time.Millisecond), "a@one.example")
			tag(e, kind, 1)
			put(t, s, e, content(10))
		}
		few := map[queue.ID]bool{}
		for who := 2; who <= 4; who++ {
			e := message(now.Add(time.Second), "a@one.example")
			tag(e, kind, who)
			put(t, s, e, content(10))
			few[e.ID] = true
		}
		s = s.Reopen(t)
		at := time.Now()
		var last time.Time
		for i := range many + 3 {
			c := claim(t, s, "one.example", at)
			if few[c.Envelope.ID] {
				delete(few, c.Envelope.ID)
			} else if c.Envelope.Arrived.Before(last) {
				t.Fatal("a sender's messages changed their order")
			} else {
				last = c.Envelope.Arrived
			}
			if i == 3 && len(few) > 0 {
				t.Fatalf("kind %d: after four claims %d of three single messages wait behind %d of one sender", kind, len(few), many)
			}
			settle(t, s, c, delivered(0))
		}
		empty(t, s)
	}
}

// testManySenders: with more senders than anyone keeps apart everything is
// given out, and each sender's messages in their order.
func testManySenders(t *testing.T, s Engine) {
	const senders, each = 300, 3
	now := time.Now().Add(-time.Minute)
	for i := range each {
		for who := range senders {
			e := message(now.Add(time.Duration(i)*time.Second), "a@one.example")
			e.Sender = queue.ReversePath(fmt.Sprintf("sender%d@example.org", who))
			put(t, s, e, content(10))
		}
	}
	last := map[queue.ReversePath]time.Time{}
	for i := range senders * each {
		c := claim(t, s, "one.example", time.Now())
		if before := last[c.Envelope.Sender]; !c.Envelope.Arrived.After(before) {
			t.Fatal("a sender's messages changed their order")
		}
		last[c.Envelope.Sender] = c.Envelope.Arrived
		if i%5 == 0 {
			settle(t, s, c, deferred(0, time.Now().Add(time.Hour)))
		} else {
			settle(t, s, c, delivered(0))
		}
	}
	noClaim(t, s, "one.example", time.Now())
	for range senders * each / 5 {
		c := claim(t, s, "one.example", time.Now().Add(2*time.Hour))
		settle(t, s, c, delivered(0))
	}
	empty(t, s)
}
