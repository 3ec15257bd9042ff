package pebblestore

import "bytes"

// The two kinds of heaps of the index: the groups of a sender at a destination by when
// they fall due, and the destinations by their first group. Each entry knows
// its place, so that one in the middle can be moved or taken out.

// groupLess orders by due time, and by age where that is the same.
func (x *index) groupLess(a, b uint32) bool {
	g, h := x.groups.at(a), x.groups.at(b)
	if g.next != h.next {
		return g.next < h.next
	}
	return bytes.Compare(x.msgs.at(g.msg).id[:], x.msgs.at(h.msg).id[:]) < 0
}

func (x *index) groupUp(heap []uint32, at int) {
	gi := heap[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !x.groupLess(gi, heap[parent]) {
			break
		}
		heap[at] = heap[parent]
		x.groups.at(heap[at]).pos = int32(at)
		at = parent
	}
	heap[at] = gi
	x.groups.at(gi).pos = int32(at)
}

func (x *index) groupDown(heap []uint32, at int) {
	gi := heap[at]
	for {
		child := 2*at + 1
		if child >= len(heap) {
			break
		}
		if child+1 < len(heap) && x.groupLess(heap[child+1], heap[child]) {
			child++
		}
		if !x.groupLess(heap[child], gi) {
			break
		}
		heap[at] = heap[child]
		x.groups.at(heap[at]).pos = int32(at)
		at = child
	}
	heap[at] = gi
	x.groups.at(gi).pos = int32(at)
}

func (x *index) groupFix(heap []uint32, at int) {
	gi := heap[at]
	x.groupUp(heap, at)
	if heap[at] == gi {
		x.groupDown(heap, at)
	}
}

// destLess orders destinations that have something waiting.
func (x *index) destLess(a, b uint32) bool {
	return x.dests.at(a).due < x.dests.at(b).due
}

func (x *index) destUp(at int) {
	di := x.order[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !x.destLess(di, x.order[parent]) {
			break
		}
		x.order[at] = x.order[parent]
		x.dests.at(x.order[at]).pos = int32(at)
		at = parent
	}
	x.order[at] = di
	x.dests.at(di).pos = int32(at)
}

func (x *index) destDown(at int) {
	di := x.order[at]
	for {
		child := 2*at + 1
		if child >= len(x.order) {
			break
		}
		if child+1 < len(x.order) && x.destLess(x.order[child+1], x.order[child]) {
			child++
		}
		if !x.destLess(x.order[child], di) {
			break
		}
		x.order[at] = x.order[child]
		x.dests.at(x.order[at]).pos = int32(at)
		at = child
	}
	x.order[at] = di
	x.dests.at(di).pos = int32(at)
}

func (x *index) destFix(at int) {
	di := x.order[at]
	x.destUp(at)
	if x.order[at] == di {
		x.destDown(at)
	}
}

// reorder brings a destination to its place after its heap has changed.
func (x *index) reorder(di uint32) {
	d := x.dests.at(di)
	switch waits := x.first(d); {
	case waits && d.pos >= 0:
		x.destFix(int(d.pos))
	case waits:
		x.order = append(x.order, di)
		x.destUp(len(x.order) - 1)
	case d.pos >= 0:
		// Its heap is empty, so it cannot be compared: the last one takes its place first.
		at, last := int(d.pos), len(x.order)-1
		d.pos = -1
		moved := x.order[last]
		x.order = x.order[:last]
		if at != last {
			x.order[at] = moved
			x.dests.at(moved).pos = int32(at)
			x.destFix(at)
		}
	}
}
