package pebblestore

import (
	"math"
	"time"

	"tacet/queue"
)

// slab hands out slots of an array by number, in chunks that never move. The
// number 0 is never given out, so that it can mean "none". It holds no
// pointers, so that a million entries cost the garbage collector nothing.
type slab[T any] struct {
	chunks [][]T
	free   []uint32
	next   uint32
}

const (
	slabChunk  = 1024
	keepChunks = 32 // that an empty index keeps
)

func (s *slab[T]) at(i uint32) *T { return &s.chunks[i/slabChunk][i%slabChunk] }

func (s *slab[T]) alloc() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.next = max(s.next, 1)
	if int(s.next/slabChunk) == len(s.chunks) {
		s.chunks = append(s.chunks, make([]T, slabChunk))
	}
	s.next++
	return s.next - 1
}

func (s *slab[T]) release(i uint32) {
	var zero T
	*s.at(i) = zero
	s.free = append(s.free, i)
}

// Flags of a message in the index.
const (
	msgHeld     = 1 << iota
	msgDamaged  // set aside: it does not match its checksum
	msgStates   // it has state records
	msgStreamed // its content is in a file
	msgLeaving  // it is being deleted
)

// message is what memory keeps of each queued message: 32 octets.
type message struct {
	id     queue.ID
	flags  uint8
	routes uint8  // the routing by which its groups were made: Store.routes
	active uint16 // claims given out
	rev    uint16 // counts changes of its state
	key    keyRef
	first  uint32 // its first group, 0: none
	size   uint32 // octets of content
	sender uint32 // hash of who sent it: see senderOf
}

// group is the recipients of one message that wait in one destination.
type group struct {
	next    int64  // when it falls due, in nanoseconds since 1970
	msg     uint32 // whose it is
	sibling uint32 // next group of the same message, 0: none
	place   uint32 // its destination, and in the low bits its turn there
	pos     int32  // place in its destination's heap, or one of the two below
}

// Places of a group that is in no heap.
const (
	posActive = -1 // claimed
	posParked = -2 // held, or set aside
)

// dest is the number of the group's destination.
func (g *group) dest() uint32 { return g.place >> turnBits }

// turn is the number of the turn in whose heap the group is, if it is in one.
func (g *group) turn() uint32 { return g.place & (maxTurns - 1) }

// dest is one destination. It lives as long as it has groups.
type dest struct {
	name   queue.Destination
	turns  []turn
	groups int    // all its groups
	due    int64  // when its first group falls due; nothing if none waits
	pos    int32  // place in index.order, -1: nothing waits here
	next   uint32 // whose turn it is
}

// turn is what waits at a destination of one sender. Senders take turns, so
// that one who sends much does not keep the others waiting. Where more than
// maxTurns have something waiting, some share a turn.
type turn struct {
	sender uint32
	heap   []uint32 // groups that wait, the one due first on top; empty: the turn is free
}

const (
	turnBits = 6
	maxTurns = 1 << turnBits
)

// takeTurn finds a sender's turn, or gives it one.
func (d *dest) takeTurn(sender uint32) uint32 {
	free := len(d.turns)
	for i := range d.turns {
		if t := &d.turns[i]; len(t.heap) == 0 {
			free = min(free, i)
		} else if t.sender == sender {
			return uint32(i)
		}
	}
	if free == maxTurns {
		return sender % maxTurns
	}
	if free == len(d.turns) {
		d.turns = append(d.turns, turn{})
	}
	d.turns[free].sender = sender
	return uint32(free)
}

// index knows what is queued, where, and when it falls due. It is guarded by Store.mu.
type index struct {
	byID   map[queue.ID]uint32
	msgs   slab[message]
	groups slab[group]
	dests  slab[dest]
	byName map[queue.Destination]uint32
	order  []uint32 // destinations where something waits, the one due first on top

	waiting, held, damaged int
	bytes                  int64
}

func (x *index) init() {
	*x = index{byID: make(map[queue.ID]uint32), byName: make(map[queue.Destination]uint32)}
}

// ids lists what is queued, in no order.
func (x *index) ids() []queue.ID {
	ids := make([]queue.ID, 0, len(x.byID))
	for id := range x.byID {
		ids = append(ids, id)
	}
	return ids
}

// add enters a message that has no groups yet.
func (x *index) add(m message, size int64) uint32 {
	mi := x.msgs.alloc()
	m.size = uint32(min(size, math.MaxUint32))
	*x.msgs.at(mi) = m
	x.byID[m.id] = mi
	x.bytes += int64(m.size)
	if m.flags&msgHeld != 0 {
		x.held++
	}
	if m.flags&msgDamaged != 0 {
		x.damaged++
	}
	return mi
}

// setFlag sets or clears a flag and keeps the counts.
func (x *index) setFlag(mi uint32, f uint8, on bool) {
	m := x.msgs.at(mi)
	if (m.flags&f != 0) == on {
		return
	}
	m.flags ^= f
	d := 1
	if !on {
		d = -1
	}
	switch f {
	case msgHeld:
		x.held += d
	case msgDamaged:
		x.damaged += d
	}
}

// remove forgets a message and its groups.
func (x *index) remove(mi uint32) {
	m := x.msgs.at(mi)
	for gi := m.first; gi != 0; {
		next := x.groups.at(gi).sibling
		x.freeGroup(gi)
		gi = next
	}
	x.setFlag(mi, msgHeld, false)
	x.setFlag(mi, msgDamaged, false)
	x.bytes -= int64(m.size)
	delete(x.byID, m.id)
	x.msgs.release(mi)
	if len(x.byID) == 0 && len(x.msgs.chunks)+len(x.groups.chunks) > keepChunks {
		// What a large backlog took is given back once it has drained.
		x.init()
	}
}

// addGroup gives the message a group; parked or, if not, waiting until next.
func (x *index) addGroup(mi uint32, name queue.Destination, next int64, parked bool) uint32 {
	di, ok := x.byName[name]
	if !ok {
		di = x.dests.alloc()
		*x.dests.at(di) = dest{name: name, pos: -1}
		x.byName[name] = di
	}
	x.dests.at(di).groups++
	m := x.msgs.at(mi)
	gi := x.groups.alloc()
	*x.groups.at(gi) = group{next: next, msg: mi, sibling: m.first, place: di << turnBits, pos: posParked}
	m.first = gi
	if !parked {
		x.push(gi)
	}
	return gi
}

// dropGroup takes one group from its message.
func (x *index) dropGroup(gi uint32) {
	m := x.msgs.at(x.groups.at(gi).msg)
	for at := &m.first; *at != 0; at = &x.groups.at(*at).sibling {
		if *at == gi {
			*at = x.groups.at(gi).sibling
			break
		}
	}
	x.freeGroup(gi)
}

func (x *index) freeGroup(gi uint32) {
	g := x.groups.at(gi)
	if g.pos >= 0 {
		x.pull(gi, posParked)
	}
	d := x.dests.at(g.dest())
	if d.groups--; d.groups == 0 {
		delete(x.byName, d.name)
		x.dests.release(g.dest())
	}
	x.groups.release(gi)
}

// push makes a group wait in its destination.
func (x *index) push(gi uint32) {
	g := x.groups.at(gi)
	di := g.dest()
	d := x.dests.at(di)
	at := d.takeTurn(x.msgs.at(g.msg).sender)
	g.place = di<<turnBits | at
	t := &d.turns[at]
	t.heap = append(t.heap, gi)
	x.groupUp(t.heap, len(t.heap)-1)
	x.waiting++
	x.reorder(di)
}

// pull takes a waiting group from its heap and leaves it at pos.
func (x *index) pull(gi uint32, pos int32) {
	g := x.groups.at(gi)
	d := x.dests.at(g.dest())
	t := &d.turns[g.turn()]
	at, last := int(g.pos), len(t.heap)-1
	if at != last {
		t.heap[at] = t.heap[last]
		x.groups.at(t.heap[at]).pos = int32(at)
	}
	t.heap = t.heap[:last]
	if at != last {
		x.groupFix(t.heap, at)
	}
	if last == 0 {
		t.heap = nil
	}
	g.pos = pos
	x.waiting--
	x.reorder(g.dest())
}

// due is the group at the destination that is due longest of the sender whose
// turn it is among those who have one due, 0 if none is. The next turn is another's.
func (x *index) due(name queue.Destination, now int64) uint32 {
	di, ok := x.byName[name]
	if !ok {
		return 0
	}
	d := x.dests.at(di)
	for range d.turns {
		if d.next >= uint32(len(d.turns)) {
			d.next = 0
		}
		t := &d.turns[d.next]
		d.next++
		if len(t.heap) > 0 && x.groups.at(t.heap[0]).next <= now {
			return t.heap[0]
		}
	}
	return 0
}

// ready lists the destinations with something due and tells when the next thing
// falls due elsewhere. It looks at those only, and at their children in the heap.
func (x *index) ready(now int64) (names []queue.Destination, next time.Time) {
	soonest := int64(math.MaxInt64)
	if len(x.order) == 0 {
		return nil, time.Time{}
	}
	stack := make([]int, 1, 16)
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		d := x.dests.at(x.order[at])
		if t := d.due; t > now {
			soonest = min(soonest, t)
			continue
		}
		names = append(names, d.name)
		for child := 2*at + 1; child <= 2*at+2 && child < len(x.order); child++ {
			stack = append(stack, child)
		}
	}
	if soonest == math.MaxInt64 {
		return names, time.Time{}
	}
	return names, time.Unix(0, soonest)
}

// first notes when the destination's first group falls due, and tells whether there is one.
func (x *index) first(d *dest) (waits bool) {
	d.due = math.MaxInt64
	for i := range d.turns {
		if heap := d.turns[i].heap; len(heap) > 0 {
			d.due, waits = min(d.due, x.groups.at(heap[0]).next), true
		}
	}
	if !waits {
		d.turns = nil
	}
	return waits
}

// retryAll makes everything that waits due at now, keeping what is due
// already before it, and counts the messages concerned.
func (x *index) retryAll(now int64) int {
	for _, di := range x.order {
		d := x.dests.at(di)
		for i := range d.turns {
			heap := d.turns[i].heap
			for _, gi := range heap {
				g := x.groups.at(gi)
				g.next = min(g.next, now)
			}
			for at := len(heap)/2 - 1; at >= 0; at-- {
				x.groupDown(heap, at)
			}
		}
		x.first(d)
	}
	for at := len(x.order)/2 - 1; at >= 0; at-- {
		x.destDown(at)
	}
	n := 0
	for _, mi := range x.byID {
		for gi := x.msgs.at(mi).first; gi != 0; gi = x.groups.at(gi).sibling {
			if x.groups.at(gi).pos >= 0 {
				n++
				break
			}
		}
	}
	return n
}
