package quota

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// maxKnown is how many recipients are remembered over all users, some 50 MB. Beyond it one
// that the user has not written to for long makes room.
const maxKnown = 2_000_000

// Config is what a [Meter] is made of.
type Config struct {
	Quota  func(user string) relay.Quota // of a user now
	Memory time.Duration                 // how long recipients are remembered; 0: they are not, and none counts as new
	Keeper Keeper                        // nil: nothing is kept over a restart
	Failed func(error)                   // is told that the Keeper failed; nil: no one
}

// Meter counts what users send. All methods may be called at the same time.
type Meter struct {
	config Config
	memory atomic.Int64
	Stats  Stats

	mu     sync.Mutex
	key    [32]byte // of the hashes
	users  map[userID]*usage
	known  int // recipients, over all users
	dirty  bool
	closed bool
	timer  *time.Timer

	saving sync.Mutex
	pause  time.Duration // before the next save
}

// userID is a user's hash.
type userID [16]byte

// Stats counts refusals and what is remembered.
type Stats struct {
	Refused    [len(windows)]atomic.Int64 // transactions, recipients and messages, by limit
	Remembered atomic.Int64               // recipients
}

// New makes a meter that knows what its Keeper has. The error is the Keeper's, and
// the meter works all the same.
func New(c Config) (*Meter, error) {
	m := &Meter{config: c, users: make(map[userID]*usage), pause: saveAfter}
	m.memory.Store(int64(c.Memory))
	rand.Read(m.key[:])
	err := m.load()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirty {
		m.schedule(saveAfter)
	} else {
		m.schedule(forgetEvery)
	}
	return m, err
}

// Remember changes how long recipients are remembered.
func (m *Meter) Remember(memory time.Duration) { m.memory.Store(int64(memory)) }

func (m *Meter) remembers() time.Duration { return time.Duration(m.memory.Load()) }

func (m *Meter) sum(purpose string, parts ...string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, m.key[:])
	io.WriteString(mac, purpose)
	for _, p := range parts {
		mac.Write([]byte{0})
		io.WriteString(mac, p)
	}
	return [sha256.Size]byte(mac.Sum(nil))
}

func (m *Meter) user(name string) userID {
	sum := m.sum("user", name)
	return userID(sum[:16])
}

// recipient is the hash of an address, the same for all spellings and all users.
func (m *Meter) recipient(address string) uint64 {
	local, domain, ok := relay.CanonicalMailbox(address)
	if !ok {
		local = strings.ToLower(address)
	}
	sum := m.sum("recipient", local, domain)
	return binary.BigEndian.Uint64(sum[:])
}

// of is what is known of a user, nil if nothing. m.mu is held.
func (m *Meter) of(user string) *usage { return m.users[m.user(user)] }

// knows tells whether the user has written to the recipient. m.mu is held.
func (m *Meter) knows(u *usage, recipient uint64, now time.Time) bool {
	if u == nil {
		return false
	}
	minute, found := u.known[recipient]
	return found && remembered(minute, now, m.remembers())
}

// Charge implements [relay.Charger].
func (m *Meter) Charge(e *queue.Envelope) (refund func(), err error) {
	if e.Origin.User == "" {
		return nil, nil
	}
	quota := m.config.Quota(e.Origin.User)
	if quota.Unlimited() {
		return nil, nil
	}
	var all []uint64
	if quota[relay.NewRecipientsPerDay] > 0 && m.remembers() > 0 {
		for i := range e.Recipients {
			all = append(all, m.recipient(string(e.Recipients[i].Path)))
		}
	}
	now, id := time.Now(), m.user(e.Origin.User)
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.users[id]
	fresh := make(map[uint64]struct{})
	for _, hash := range all {
		if !m.knows(u, hash, now) {
			fresh[hash] = struct{}{}
		}
	}
	wants := relay.Quota{
		relay.MessagesPerHour: 1, relay.MessagesPerDay: 1,
		relay.RecipientsPerHour: len(e.Recipients), relay.RecipientsPerDay: len(e.Recipients),
		relay.NewRecipientsPerDay: len(fresh),
	}
	if err := m.fits(u, quota, wants, now); err != nil {
		return nil, err
	}
	if u == nil {
		u = &usage{known: make(map[uint64]uint32)}
		m.users[id] = u
	}
	at := slotOf(now)
	u.add(at, 1, len(e.Recipients), len(fresh))
	for _, hash := range all {
		m.remember(u, hash, minuteOf(now))
	}
	m.changed()
	return func() { m.refund(u, at, len(e.Recipients), fresh) }, nil
}

// remember notes that a message goes to the recipient, and makes room for it: of a few
// that the user has written to, the one longest ago. m.mu is held.
func (m *Meter) remember(u *usage, recipient uint64, minute uint32) {
	if _, found := u.known[recipient]; !found {
		if m.known >= maxKnown {
			looked, oldest, since := 0, uint64(0), uint32(0)
			for hash, at := range u.known {
				if looked == 0 || at < since {
					oldest, since = hash, at
				}
				if looked++; looked == 16 {
					break
				}
			}
			if looked == 0 {
				return // stays new
			}
			delete(u.known, oldest)
			m.known--
		}
		m.known++
	}
	u.known[recipient] = minute
	m.Stats.Remembered.Store(int64(m.known))
}

// refund takes back what was charged for a message that was not stored.
func (m *Meter) refund(u *usage, at int64, recipients int, fresh map[uint64]struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u.add(at, -1, -recipients, -len(fresh))
	for hash := range fresh {
		if _, found := u.known[hash]; found {
			delete(u.known, hash)
			m.known--
		}
	}
	m.Stats.Remembered.Store(int64(m.known))
	m.changed()
}

// fits tells whether the user may send what is wanted, beside what was sent. m.mu is held.
func (m *Meter) fits(u *usage, quota, wants relay.Quota, now time.Time) error {
	var used relay.Quota
	if u != nil {
		used = u.used(now)
	}
	for _, limit := range relay.AllLimits() {
		if quota[limit] > 0 && wants[limit] > 0 && used[limit]+wants[limit] > quota[limit] {
			m.Stats.Refused[limit].Add(1)
			return rejection(limit)
		}
	}
	return nil
}

// rejection is the reply to what is too much. Each is passing: 450 also at the end of
// the content, where it stands for a policy (RFC 5321 §4.3.2).
func rejection(limit relay.Limit) *relay.Rejection {
	text := ""
	switch limit {
	case relay.MessagesPerHour:
		text = "You have sent as many messages as your account may in an hour; try again later"
	case relay.MessagesPerDay:
		text = "You have sent as many messages as your account may in a day; try again later"
	case relay.RecipientsPerHour:
		text = "Your account may send to no more recipients in this hour; send to the others later"
	case relay.RecipientsPerDay:
		text = "Your account may send to no more recipients on this day; send to the others later"
	default:
		text = "Your account may write to no more new recipients on this day; send to those you know, and to the others later"
	}
	return &relay.Rejection{Code: 450, Enhanced: queue.Enhanced{4, 7, 1}, Class: relay.ClassLimit, Ground: relay.GroundQuota, Text: text}
}
