package reputation

import (
	"errors"
	"sync"
	"time"
)

// A service that did not answer so often in a row is left alone for so long.
const (
	patience = 5
	resting  = 30 * time.Second
)

var errResting = errors.New("the service did not answer lately and is not asked for now")

// breaker keeps a service that is away from holding up each message in turn. The zero
// one lets all pass.
type breaker struct {
	mu     sync.Mutex
	failed int
	until  time.Time
}

// allow tells whether the service may be asked now. After a rest one question goes
// out, and decides for the others.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < patience {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(resting)
	return true
}

func (b *breaker) note(ok bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		b.failed = 0
		return
	}
	if b.failed++; b.failed == patience {
		b.until = now.Add(resting)
	}
}
