package pebblestore

import (
	"net/netip"
	"slices"
	"time"

	"tacet/queue"
)

func appendOwed(b []byte, o *queue.Owed) []byte {
	b = append(b, byte(o.Kind))
	b = appendTime(b, o.By)
	b = appendTime(b, o.At)
	return appendAddr(b, o.Host)
}

func (d *decoder) owed() *queue.Owed {
	o := &queue.Owed{Kind: queue.Notify(d.byte()), By: d.time(), At: d.time()}
	if host := d.take(uint64(d.byte())); len(host) > 0 {
		var a netip.Addr
		if a.UnmarshalBinary(host) == nil {
			o.Host = a
		}
	}
	return o
}

// reportsDue is when the reports that are owed for a message are to be made.
func (r *routing) reportsDue(e *queue.Envelope) (next int64, owed bool) {
	var by time.Time
	for i := range e.Recipients {
		if o := e.Recipients[i].Owed; o != nil && (!owed || o.By.Before(by)) {
			by, owed = o.By, true
		}
	}
	tried := func(rc queue.Recipient) bool { return rc.State == queue.Waiting && !rc.Next.After(by) }
	// A clock was wrong where it takes too long, as in dueAt.
	if time.Until(by) > r.longest || !slices.ContainsFunc(e.Recipients, tried) {
		return nanos(e.Arrived), owed
	}
	return nanos(by), owed
}

// regroupReports gives a message's reports their place among what is due
// anew. While they are under way they keep it. s.mu is held.
func (s *Store) regroupReports(mi uint32, env *queue.Envelope) {
	x := &s.index
	m := x.msgs.at(mi)
	for gi := m.first; gi != 0; gi = x.groups.at(gi).sibling {
		if g := x.groups.at(gi); x.dests.at(g.dest()).name == queue.Reports {
			if g.pos == posActive {
				return
			}
			x.dropGroup(gi)
			break
		}
	}
	if next, owed := s.routing.Load().reportsDue(env); owed && m.flags&msgDamaged == 0 {
		x.addGroup(mi, queue.Reports, next, m.flags&msgHeld != 0)
	}
}

// owing lists the recipients for which a report is owed.
func owing(e *queue.Envelope) []int {
	var out []int
	for i := range e.Recipients {
		if e.Recipients[i].Owed != nil {
			out = append(out, i)
		}
	}
	return out
}

// reported applies the settlement of a claim at queue.Reports to a recipient:
// what it owed then is made. What it owes since is another report.
func reported(rc, claimed *queue.Recipient) {
	if rc.Owed != nil && claimed.Owed != nil && rc.Owed.Kind == claimed.Owed.Kind {
		rc.Owed = nil
	}
}

// owe notes what an outcome leaves to report.
func owe(rc *queue.Recipient, o *queue.Outcome) {
	switch {
	case o.Owed != nil:
		rc.Owed = o.Owed
	case rc.Owed != nil && rc.Owed.Kind == queue.NotifyDelay && o.State.Settled():
		rc.Owed = nil // what is over is late no more
	}
}
