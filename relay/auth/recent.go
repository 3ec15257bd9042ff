package auth

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

// A login that succeeded is remembered for a minute, so that a client that
// opens a session for each message does not cost a hash each time.
const (
	rememberFor = time.Minute
	maxRecent   = 4096
)

// logins remembers successful logins by digest. It belongs to one table and
// is forgotten with it, so a changed password never outlives a reload.
type logins struct {
	mu      sync.Mutex
	expires map[[sha256.Size]byte]time.Time
}

func newLogins() *logins {
	return &logins{expires: make(map[[sha256.Size]byte]time.Time)}
}

func (l *logins) has(sum [sha256.Size]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	expires, found := l.expires[sum]
	return found && time.Now().Before(expires)
}

func (l *logins) add(sum [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.expires) >= maxRecent {
		maps.DeleteFunc(l.expires, func(_ [sha256.Size]byte, expires time.Time) bool { return !now.Before(expires) })
		if len(l.expires) >= maxRecent {
			clear(l.expires)
		}
	}
	l.expires[sum] = now.Add(rememberFor)
}
