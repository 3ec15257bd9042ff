package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tacet/queue"
)

// claim is what the store knows of a claim it has given out.
type claim struct {
	group  uint32
	entry  *entry
	routes uint8 // the routing by which the group was made
	whole  bool  // every recipient of the group that is not settled is in it
}

var errNotClaimed = fmt.Errorf("the claim is not given out, it was settled or released, or its message is over: %w", queue.ErrNotFound)

// Due fills queue.Store.
func (s *Store) Due(now time.Time) (ready []queue.Destination, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.ready(now.UnixNano())
}

// Claim fills queue.Store. A message that turns out damaged is set aside, and
// the next one is given out instead.
func (s *Store) Claim(ctx context.Context, d queue.Destination, now time.Time) (*queue.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		// What cannot be recorded as delivered is not delivered.
		if err := s.usable(); err != nil {
			return nil, fmt.Errorf("claim: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("claim: %w", err)
		}
		gi := s.index.due(d, now.UnixNano())
		if gi == 0 {
			return nil, nil
		}
		c, err := s.claimGroup(gi, d, now)
		if err != nil {
			return nil, fmt.Errorf("claim: %w", err)
		}
		if c != nil {
			return c, nil
		}
	}
}

// claimGroup claims a group that is due. It returns nil where that was not
// so in the end; then the group waits elsewhere. An error says that nothing can be read
// for now, and the group is where it was. s.mu is held, and let go while the disk is read.
func (s *Store) claimGroup(gi uint32, d queue.Destination, now time.Time) (*queue.Claim, error) {
	x := &s.index
	mi := x.groups.at(gi).msg
	m := x.msgs.at(mi)
	routes := m.routes
	x.pull(gi, posActive)
	m.active++
	en, err := s.acquire(mi)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, nil // over meanwhile, see forget
	}
	if err != nil {
		m.active--
		if m.flags&msgDamaged == 0 && shortage(err) {
			x.groups.at(gi).pos = posParked
			x.push(gi)
			return nil, err
		}
		s.setAside(mi, err)
		return nil, nil
	}
	if m.flags&(msgHeld|msgDamaged) == 0 && routes == s.routing.Load().number {
		c := &queue.Claim{Envelope: en.env, Destination: d}
		whole := true
		if d == queue.Reports {
			c.Recipients = owing(en.env)
		} else {
			whole = s.waiting(c, mi, gi, now)
		}
		if len(c.Recipients) > 0 {
			c.Content = s.content(en)
			s.claims[c] = claim{group: gi, entry: en, routes: routes, whole: whole}
			return c, nil
		}
	}
	m.active--
	x.groups.at(gi).pos = posParked
	s.regroup(mi, en.env)
	s.recent.unpin(en)
	return nil, nil
}

// waiting adds to a claim the recipients that are due at its destination, and
// tells whether these are all of the group. s.mu is held.
func (s *Store) waiting(c *queue.Claim, mi, gi uint32, now time.Time) (whole bool) {
	x, r := &s.index, s.routing.Load()
	m := x.msgs.at(mi)
	single := m.first == gi && x.groups.at(gi).sibling == 0
	whole = true
	var busy map[int]bool // recipients that came here from where they are under delivery
	if m.active > 1 && s.rerouted {
		busy, _ = s.underDelivery(mi)
	}
	for i := range c.Envelope.Recipients {
		rc := &c.Envelope.Recipients[i]
		if rc.State.Settled() || busy[i] || !single && r.destination(rc.Path) != c.Destination {
			continue
		}
		if rc.State != queue.Waiting || r.dueAt(c.Envelope, rc) > now.UnixNano() {
			whole = false
			continue
		}
		c.Recipients = append(c.Recipients, i)
	}
	return whole
}

// acquire finds the message's entry, or reads it from the disk, and pins it.
// s.mu is held, and let go while the disk is read.
func (s *Store) acquire(mi uint32) (*entry, error) {
	for {
		if en := s.recent.byMsg[mi]; en != nil {
			en.pins++
			return en, nil
		}
		before := *s.index.msgs.at(mi)
		s.mu.Unlock()
		en, err := s.load(before.id, before.key, parts{states: before.flags&msgStates != 0, content: true})
		s.mu.Lock()
		if now, ok := s.index.byID[before.id]; !ok || now != mi {
			return nil, queue.ErrNotFound
		}
		m := s.index.msgs.at(mi)
		switch {
		case m.key != before.key || m.rev != before.rev || s.recent.byMsg[mi] != nil:
			continue // what was read is old
		case err != nil:
			return nil, err
		}
		en.msg, en.pins = mi, 1
		s.recent.byMsg[mi] = en
		return en, nil
	}
}

// setAside quarantines a message that cannot be read: it stays in the store
// and is not delivered. s.mu is held.
func (s *Store) setAside(mi uint32, cause error) {
	x := &s.index
	m := x.msgs.at(mi)
	if m.flags&msgDamaged != 0 {
		return
	}
	x.setFlag(mi, msgDamaged, true)
	for gi := m.first; gi != 0; gi = x.groups.at(gi).sibling {
		if g := x.groups.at(gi); g.pos >= 0 {
			x.pull(gi, posParked)
		} else if g.pos == posActive && !s.claimed(gi) {
			g.pos = posParked
		}
	}
	s.opts.Events(Event{Kind: EventDamaged, ID: m.id, Err: cause})
}

// claimed tells whether a claim of the group is given out.
func (s *Store) claimed(gi uint32) bool {
	for _, cl := range s.claims {
		if cl.group == gi {
			return true
		}
	}
	return false
}

// regroup makes the message's groups anew, but for those under delivery. s.mu is held.
func (s *Store) regroup(mi uint32, env *queue.Envelope) {
	x := &s.index
	m := x.msgs.at(mi)
	if m.flags&(msgDamaged|msgLeaving) != 0 {
		return
	}
	reporting := false
	for gi := m.first; gi != 0; {
		g := x.groups.at(gi)
		next := g.sibling
		if g.pos != posActive {
			x.dropGroup(gi)
		} else if x.dests.at(g.dest()).name == queue.Reports {
			reporting = true
		}
		gi = next
	}
	r := s.routing.Load()
	var skip func(int) bool
	if m.active > 0 {
		busy, loading := s.underDelivery(mi)
		skip = func(i int) bool { return busy[i] || loading[r.destination(env.Recipients[i].Path)] }
	}
	for _, t := range appendTargets(nil, r, env, skip) {
		if reporting && t.dest == queue.Reports {
			continue
		}
		x.addGroup(mi, t.dest, t.next, t.parked || m.flags&msgHeld != 0)
	}
	m.routes = r.number
}

// underDelivery lists the recipients of a message that are in a claim, and the
// destinations for which its claim is on the way: its content is being read.
func (s *Store) underDelivery(mi uint32) (busy map[int]bool, loading map[queue.Destination]bool) {
	x := &s.index
	busy, loading = make(map[int]bool), make(map[queue.Destination]bool)
	out := make(map[uint32]bool)
	for c, cl := range s.claims {
		if x.groups.at(cl.group).msg != mi {
			continue
		}
		out[cl.group] = true
		if c.Destination == queue.Reports {
			continue // their delivery goes on
		}
		for _, i := range c.Recipients {
			busy[i] = true
		}
	}
	for gi := x.msgs.at(mi).first; gi != 0; gi = x.groups.at(gi).sibling {
		if g := x.groups.at(gi); g.pos == posActive && !out[gi] {
			loading[x.dests.at(g.dest()).name] = true
		}
	}
	return busy, loading
}

// Release fills queue.Store.
func (s *Store) Release(c *queue.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cl, ok := s.claims[c]
	if !ok {
		return
	}
	delete(s.claims, c)
	g := s.index.groups.at(cl.group)
	mi := g.msg
	m := s.index.msgs.at(mi)
	m.active--
	g.pos = posParked
	if m.flags&(msgHeld|msgDamaged) == 0 && cl.routes == s.routing.Load().number && cl.whole {
		g.next = max(g.next, time.Now().UnixNano()) // the last of those that are due
		s.index.push(cl.group)
	} else {
		s.regroup(mi, cl.entry.env)
	}
	s.recent.unpin(cl.entry)
}

// Settle fills queue.Store.
func (s *Store) Settle(ctx context.Context, c *queue.Claim, st queue.Settlement) error {
	if err := s.usable(); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	var report *incoming
	if st.Report != nil {
		report = &incoming{env: st.Report.Envelope, head: st.Report.Content}
		report.env.Size = int64(len(report.head))
		if report.head == nil {
			report.head = []byte{}
		}
		if err := s.admissible(report.env, report.head); err != nil {
			return fmt.Errorf("settle: the report: %w", err)
		}
		buf := s.buffers.get()
		defer s.buffers.put(buf)
		if err := s.prepare(report, buf); err != nil {
			return fmt.Errorf("settle: the report: %w", err)
		}
	}
	g, err := s.settle(c, st, report)
	if report == nil && err != errNotClaimed && c.Destination != queue.Reports {
		s.outcomes.add(c.Envelope.ID, st.Outcomes)
	}
	if err == nil && report != nil {
		err = s.await(g)
	}
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// settle applies the outcomes in memory and to the current group, which it returns.
func (s *Store) settle(c *queue.Claim, st queue.Settlement, report *incoming) (*bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cl, ok := s.claims[c]
	if !ok {
		return nil, errNotClaimed
	}
	x := &s.index
	mi := x.groups.at(cl.group).msg
	m := x.msgs.at(mi)
	env, changed, err := outcome(cl.entry.env, c, st, m.flags&msgHeld != 0)
	if err != nil {
		return nil, err
	}
	settled := true
	for i := range env.Recipients {
		if !env.Recipients[i].Over() {
			settled = false
			break
		}
	}
	g, err := s.write(change{msg: mi, env: env, recipients: changed, settled: settled, entry: cl.entry, report: report})
	if err != nil {
		return nil, err
	}
	delete(s.claims, c)
	m.active--
	if settled {
		s.forget(mi)
		return g, nil
	}
	m.rev++
	cl.entry.env = env
	s.settleGroup(mi, cl, env, c)
	if !s.dueNow(mi) {
		// Minutes will pass: its content need not wait in memory.
		s.recent.uncount(cl.entry)
	}
	s.recent.unpin(cl.entry)
	return g, nil
}

// outcome applies a settlement to an envelope, and returns a new one with
// the recipients that changed.
func outcome(env *queue.Envelope, c *queue.Claim, st queue.Settlement, held bool) (*queue.Envelope, []int, error) {
	next := *env
	next.Recipients = slices.Clone(env.Recipients)
	changed := make([]int, 0, len(st.Outcomes))
	for _, o := range st.Outcomes {
		if !slices.Contains(c.Recipients, o.Recipient) || slices.Contains(changed, o.Recipient) {
			return nil, nil, fmt.Errorf("an outcome for recipient %d, which is not in the claim or has one", o.Recipient)
		}
		rc := &next.Recipients[o.Recipient]
		if c.Destination == queue.Reports {
			reported(rc, &c.Envelope.Recipients[o.Recipient])
			changed = append(changed, o.Recipient)
			continue
		}
		rc.State, rc.Next, rc.Warned, rc.Last = o.State, o.Next, o.Warned, o.Reply
		rc.Attempts++
		owe(rc, &o)
		if held && o.State == queue.Waiting {
			rc.State = queue.Held
		}
		changed = append(changed, o.Recipient)
	}
	return &next, changed, nil
}

// settleGroup finds the group of a settled claim its new place. s.mu is held.
func (s *Store) settleGroup(mi uint32, cl claim, env *queue.Envelope, c *queue.Claim) {
	over := cl.whole && cl.routes == s.routing.Load().number
	for _, i := range c.Recipients {
		over = over && env.Recipients[i].State.Settled()
	}
	if over || c.Destination == queue.Reports {
		s.index.dropGroup(cl.group)
		s.regroupReports(mi, env)
		return
	}
	s.index.groups.at(cl.group).pos = posParked
	s.regroup(mi, env)
}

// dueNow tells whether the message is under delivery or will be at once. s.mu is held.
func (s *Store) dueNow(mi uint32) bool {
	x := &s.index
	now := time.Now().UnixNano()
	for gi := x.msgs.at(mi).first; gi != 0; gi = x.groups.at(gi).sibling {
		if g := x.groups.at(gi); g.pos == posActive || g.pos >= 0 && g.next <= now {
			return true
		}
	}
	return false
}

// forget takes a message that is settled or deleted out of memory. s.mu is held.
func (s *Store) forget(mi uint32) {
	if s.index.msgs.at(mi).active > 0 {
		// A warning of delay was under way, and the last recipient is delivered to.
		maps.DeleteFunc(s.claims, func(_ *queue.Claim, cl claim) bool { return s.index.groups.at(cl.group).msg == mi })
	}
	if s.settled != nil {
		s.settled[s.index.msgs.at(mi).id] = true
	}
	s.recent.remove(mi)
	s.index.remove(mi)
	if n := len(s.index.byID); n == 0 || n == trimMessages {
		s.keep.poke()
	}
}
