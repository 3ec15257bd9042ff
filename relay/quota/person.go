package quota

import (
	"time"

	"tacet/relay"
)

// Used is what the user has sent, by limit, as far as it was counted: of users that had
// a limit then. known is how many recipients are remembered.
func (m *Meter) Used(user string) (used relay.Quota, known int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.of(user)
	if u == nil {
		return used, 0
	}
	return u.used(time.Now()), len(u.known)
}

// Correspondents is how many users are known to have written to the address.
func (m *Meter) Correspondents(address string) (users int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hash := m.recipient(address)
	for _, u := range m.users {
		if _, found := u.known[hash]; found {
			users++
		}
	}
	return users
}

// Erase forgets the address as a recipient, and what the users sent, and saves the rest.
// What was kept before cannot be read any more when it returns without an error.
func (m *Meter) Erase(address string, users ...string) error {
	m.mu.Lock()
	hash := m.recipient(address)
	for _, u := range m.users {
		if _, found := u.known[hash]; found {
			delete(u.known, hash)
			m.known--
		}
	}
	for _, user := range users {
		if u := m.of(user); u != nil {
			m.known -= len(u.known)
			delete(m.users, m.user(user))
		}
	}
	m.Stats.Remembered.Store(int64(m.known))
	m.dirty = true
	m.mu.Unlock()
	return m.save()
}
