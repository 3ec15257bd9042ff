package edge

import (
	"encoding/binary"
	"errors"
	"time"
)

// greyMagic begins what is kept of a greylist.
const greyMagic = "tacet greylist 1\n"

// keptTriplet is how many octets one takes up.
const keptTriplet = 16 + 8 + 1

// errMemory says that what was kept is none of ours.
var errMemory = errors.New("what was kept of the greylist is damaged, or of another version")

// Memory is what a guard would have to know after a restart, and whether that is other than what it
// returned last: whom the greylist told to wait and let through, as hashes, with their key. It is empty
// where there is no greylist. Whoever keeps it keeps it encrypted.
func (g *Guard) Memory(now time.Time) (kept []byte, changed bool) {
	if g.grey == nil {
		return nil, false
	}
	m := g.grey.triplets
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed {
		return nil, false
	}
	m.changed = false
	kept = make([]byte, 0, len(greyMagic)+len(m.key)+keptTriplet*len(m.seen))
	kept = append(append(kept, greyMagic...), m.key[:]...)
	for hash, t := range m.seen {
		if t.over(now) {
			delete(m.seen, hash)
			continue
		}
		kept = binary.BigEndian.AppendUint64(append(kept, hash[:]...), uint64(t.since))
		passed := byte(0)
		if t.passed {
			passed = 1
		}
		kept = append(kept, passed)
	}
	return kept, true
}

// Recall gives a guard that has seen nobody yet what Memory returned in an earlier process.
func (g *Guard) Recall(kept []byte, now time.Time) error {
	if g.grey == nil || len(kept) == 0 {
		return nil
	}
	m := g.grey.triplets
	rest := kept[min(len(greyMagic)+len(m.key), len(kept)):]
	if len(kept) < len(greyMagic)+len(m.key) || string(kept[:len(greyMagic)]) != greyMagic || len(rest)%keptTriplet != 0 || len(rest) > keptTriplet*maxTriplets {
		return errMemory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.key[:], kept[len(greyMagic):])
	clear(m.seen)
	for ; len(rest) > 0; rest = rest[keptTriplet:] {
		// A clock that was put back must not make one that never ends.
		t := triplet{since: min(int64(binary.BigEndian.Uint64(rest[16:])), now.Unix()), passed: rest[24] == 1}
		if !t.over(now) {
			m.seen[[16]byte(rest)] = t
		}
	}
	return nil
}

// Succeed lets a new guard know what the one before it has seen, but for the rates.
func (g *Guard) Succeed(before *Guard) {
	if g.grey != nil && before.grey != nil {
		g.grey.triplets = before.grey.triplets
	}
}
