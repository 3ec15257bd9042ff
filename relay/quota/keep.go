package quota

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Keeper keeps what the meter knows over restarts.
type Keeper interface {
	// Load returns what Save was given last, or nothing.
	Load() ([]byte, error)
	// Save replaces what is kept, whole or not at all, so that what was kept before
	// cannot be read any more, wherever a copy of it is.
	Save([]byte) error
}

// The pace of saving. A save that takes long makes the next one come later.
const (
	saveAfter   = 5 * time.Second
	saveShare   = 20               // of the time, one part in so many at most
	forgetEvery = 10 * time.Minute // what is over, also where nothing is sent
)

// kept is the form of what is kept.
type kept struct {
	Key   []byte     `json:"key"`
	Users []keptUser `json:"users"`
}

type keptUser struct {
	ID    []byte     `json:"id"`
	Slots [][4]int64 `json:"slots"` // when, messages, recipients, new ones
	Known []byte     `json:"known"` // 12 octets each: hash and minute
}

const knownLength = 12

var errKept = errors.New("the counts of users' limits are not in the form they are written in")

func (m *Meter) load() error {
	if m.config.Keeper == nil {
		return nil
	}
	content, err := m.config.Keeper.Load()
	if err != nil {
		return fmt.Errorf("reading the counts of users' limits: %w", err)
	}
	if len(content) == 0 {
		return nil
	}
	return m.decode(content)
}

// decode takes over what is kept: all of it or nothing.
func (m *Meter) decode(content []byte) error {
	var k kept
	if json.Unmarshal(content, &k) != nil || len(k.Key) != len(m.key) {
		return errKept
	}
	now, memory := time.Now(), m.remembers()
	users := make(map[userID]*usage, len(k.Users))
	known, stale := 0, false
	for _, ku := range k.Users {
		if len(ku.ID) != len(userID{}) || len(ku.Known)%knownLength != 0 {
			return errKept
		}
		u := &usage{known: make(map[uint64]uint32, len(ku.Known)/knownLength)}
		for _, s := range ku.Slots {
			if min(s[1], s[2], s[3]) < 0 || max(s[1], s[2], s[3]) > 1<<40 {
				return errKept
			}
			u.add(s[0], int(s[1]), int(s[2]), int(s[3]))
		}
		for record := range slices.Chunk(ku.Known, knownLength) {
			u.known[binary.BigEndian.Uint64(record)] = binary.BigEndian.Uint32(record[8:])
		}
		_, gone := u.forget(now, memory)
		stale = stale || gone
		if !u.empty() {
			users[userID(ku.ID)] = u
			known += len(u.known)
		}
	}
	m.key, m.users, m.known = [32]byte(k.Key), users, known
	m.dirty = stale // what is over must not stay on the disk
	m.Stats.Remembered.Store(int64(known))
	return nil
}

// encode gives what is to be kept, after what is over was forgotten. m.mu is held.
func (m *Meter) encode() ([]byte, error) {
	k := kept{Key: m.key[:]}
	for id, u := range m.users {
		ku := keptUser{ID: id[:], Known: make([]byte, 0, len(u.known)*knownLength)}
		for _, s := range u.slots {
			ku.Slots = append(ku.Slots, [4]int64{s.at, int64(s.messages), int64(s.recipients), int64(s.new)})
		}
		for _, hash := range slices.Sorted(maps.Keys(u.known)) { // their order tells nothing
			ku.Known = binary.BigEndian.AppendUint64(ku.Known, hash)
			ku.Known = binary.BigEndian.AppendUint32(ku.Known, u.known[hash])
		}
		k.Users = append(k.Users, ku)
	}
	return json.Marshal(k)
}

// forget drops what is over. m.mu is held.
func (m *Meter) forget() {
	now, memory := time.Now(), m.remembers()
	for id, u := range m.users {
		recipients, any := u.forget(now, memory)
		m.known -= recipients
		m.dirty = m.dirty || any
		if u.empty() {
			delete(m.users, id)
		}
	}
	m.Stats.Remembered.Store(int64(m.known))
}

// changed sees to it that a change is saved soon. m.mu is held.
func (m *Meter) changed() {
	if !m.dirty {
		m.dirty = true
		m.schedule(m.pause)
	}
}

// schedule has the next save after a while. m.mu is held.
func (m *Meter) schedule(after time.Duration) {
	if m.closed {
		return
	}
	if m.timer != nil {
		m.timer.Stop()
	}
	m.timer = time.AfterFunc(after, func() {
		if err := m.save(); err != nil && m.config.Failed != nil {
			m.config.Failed(err)
		}
	})
}

// save forgets what is over and saves what has changed.
func (m *Meter) save() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	m.forget()
	var content []byte
	var err error
	if m.dirty && m.config.Keeper != nil {
		content, err = m.encode()
	}
	m.dirty = false
	m.mu.Unlock()
	began := time.Now()
	if content != nil {
		err = m.config.Keeper.Save(content)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pause = max(saveAfter, saveShare*time.Since(began))
	if err != nil {
		m.dirty = true
	}
	if m.dirty {
		m.schedule(m.pause)
	} else {
		m.schedule(forgetEvery)
	}
	if err != nil {
		return fmt.Errorf("keeping the counts of users' limits: %w", err)
	}
	return nil
}

// Close saves what is known and ends.
func (m *Meter) Close() error {
	m.Stop()
	return m.save()
}

// Stop ends without saving anything: for who only looked at what was kept.
func (m *Meter) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.timer.Stop()
}
