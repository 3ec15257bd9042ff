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
)

// message is what memory keeps of each queued message: 28 octets.
type message struct {
	id     queue.ID
	flags  uint8
	routes uint8  // the routing by which its groups were made: Store.routes
	active uint16 // claims given out
	rev    uint16 // counts changes of its state
	key    keyRef
	first  uint32 // its first group, 0: none
	size   uint32 // octets of content
}

// group is the recipients of one message that wait in one destination.
type group struct {
	next    int64  // when it falls due, in nanoseconds since 1970
	msg     uint32 // whose it is
	sibling uint32 // next group of the same message, 0: none
	dest    uint32
	pos     int32 // place in its destination's heap, or one of the two below
}

// Places of a group that is in no heap.
const (
	posActive = -1 // claimed
	posParked = -2 // held, or set aside
)

// dest is one destination. It lives as long as it has groups.
type dest struct {
	name   queue.Destination
	heap   []uint32 // groups that wait, the one due first on top
	groups int      // all its groups
	pos    int      // place in index.order, -1: nothing waits here
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

// add enters a message that has no groups yet.
func (x *index) add(id queue.ID, key keyRef, size int64, flags, routes uint8) uint32 {
	mi := x.msgs.alloc()
	*x.msgs.at(mi) = message{id: id, key: key, flags: flags, routes: routes, size: uint32(min(size, math.MaxUint32))}
	x.byID[id] = mi
	x.bytes += min(size, math.MaxUint32)
	if flags&msgHeld != 0 {
		x.held++
	}
	if flags&msgDamaged != 0 {
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
	*x.groups.at(gi) = group{next: next, msg: mi, sibling: m.first, dest: di, pos: posParked}
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
	d := x.dests.at(g.dest)
	if d.groups--; d.groups == 0 {
		delete(x.byName, d.name)
		x.dests.release(g.dest)
	}
	x.groups.release(gi)
}

// push makes a group wait in its destination's heap.
func (x *index) push(gi uint32) {
	di := x.groups.at(gi).dest
	d := x.dests.at(di)
	d.heap = append(d.heap, gi)
	x.groupUp(d.heap, len(d.heap)-1)
	x.waiting++
	x.reorder(di)
}

// pull takes a waiting group from its heap and leaves it at pos.
func (x *index) pull(gi uint32, pos int32) {
	g := x.groups.at(gi)
	d := x.dests.at(g.dest)
	at, last := int(g.pos), len(d.heap)-1
	if at != last {
		d.heap[at] = d.heap[last]
		x.groups.at(d.heap[at]).pos = int32(at)
	}
	d.heap = d.heap[:last]
	if at != last {
		x.groupFix(d.heap, at)
	}
	if last == 0 {
		d.heap = nil
	}
	g.pos = pos
	x.waiting--
	x.reorder(g.dest)
}

// due is the group at the destination that is due longest, 0 if none is.
func (x *index) due(name queue.Destination, now int64) uint32 {
	di, ok := x.byName[name]
	if !ok {
		return 0
	}
	d := x.dests.at(di)
	if len(d.heap) == 0 || x.groups.at(d.heap[0]).next > now {
		return 0
	}
	return d.heap[0]
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
		if t := x.groups.at(d.heap[0]).next; t > now {
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

// retryAll makes everything that waits due at now, keeping what is due
// already before it, and counts the messages concerned.
func (x *index) retryAll(now int64) int {
	for _, di := range x.order {
		for _, gi := range x.dests.at(di).heap {
			g := x.groups.at(gi)
			g.next = min(g.next, now)
		}
	}
	for _, di := range x.order {
		heap := x.dests.at(di).heap
		for at := len(heap)/2 - 1; at >= 0; at-- {
			x.groupDown(heap, at)
		}
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
