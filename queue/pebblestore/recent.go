package pebblestore

import (
	"crypto/cipher"

	"tacet/queue"
)

// entry is a message in memory: as it came, so that its delivery reads nothing
// back, or while something is done with it. Its env is the newest and is
// replaced, never changed. Guarded by Store.mu.
type entry struct {
	msg     uint32
	env     *queue.Envelope
	head    []byte // content of a small message
	fileKey []byte // of a streamed message's content
	aead    cipher.AEAD

	pins       int   // claims and writes under way
	size       int64 // what it counts against the budget; 0: dropped with its last pin
	gone       bool  // the message is settled
	prev, next *entry
}

// recent is the entries by message. Those that nothing pins are kept up to a
// budget, the newest longest.
type recent struct {
	budget, used int64
	byMsg        map[uint32]*entry
	list         entry // ring of the entries that count against the budget, oldest first
}

// entryOverhead is what an entry takes beside its content, about.
const entryOverhead = 1 << 10

func (r *recent) init(budget int64) {
	r.budget = budget
	r.byMsg = make(map[uint32]*entry)
	r.list.prev, r.list.next = &r.list, &r.list
}

// keep enters a message that has just come and makes room for it.
func (r *recent) keep(en *entry) {
	r.byMsg[en.msg] = en
	en.size = entryOverhead + int64(cap(en.head))
	en.prev, en.next = r.list.prev, &r.list
	en.prev.next, en.next.prev = en, en
	r.used += en.size
	for r.used > r.budget && r.list.next != &r.list {
		r.uncount(r.list.next)
	}
}

// uncount takes an entry from the budget; it goes at once unless it is pinned.
func (r *recent) uncount(en *entry) {
	if en.size == 0 {
		return
	}
	r.used -= en.size
	en.size = 0
	en.prev.next, en.next.prev = en.next, en.prev
	en.prev, en.next = nil, nil
	if en.pins == 0 {
		delete(r.byMsg, en.msg)
	}
}

// unpin ends one use of an entry.
func (r *recent) unpin(en *entry) {
	en.pins--
	if en.pins == 0 && en.size == 0 && !en.gone {
		delete(r.byMsg, en.msg)
	}
}

// remove forgets a settled message, pinned or not.
func (r *recent) remove(mi uint32) {
	en := r.byMsg[mi]
	if en == nil {
		return
	}
	r.uncount(en)
	en.gone = true
	delete(r.byMsg, mi)
}
