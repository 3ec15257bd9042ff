package edge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of what is remembered: some 15 MB of each, if all of it is in use.
const (
	maxNetworks = 100_000
	maxTriplets = 200_000
)

// rates counts the clients' networks.
type rates struct {
	each  rate.Limit
	burst int

	mu   sync.Mutex
	seen map[netip.Addr]*rate.Limiter
}

// newRates allows so many in a minute, nil any number.
func newRates(perMinute int) *rates {
	if perMinute <= 0 {
		return nil
	}
	return &rates{each: rate.Every(time.Minute / time.Duration(perMinute)), burst: perMinute, seen: make(map[netip.Addr]*rate.Limiter)}
}

func (r *rates) allow(client netip.Addr) bool {
	if r == nil || !client.IsValid() {
		return true
	}
	key := network(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.seen[key]
	if l == nil {
		if len(r.seen) >= maxNetworks {
			r.forget()
		}
		l = rate.NewLimiter(r.each, r.burst)
		r.seen[key] = l
	}
	return l.Allow()
}

// forget makes room: of a few networks, those that have rested long enough, or
// else the one that has the most left. r.mu is held.
func (r *rates) forget() {
	looked, most, which := 0, -1.0, netip.Addr{}
	for key, l := range r.seen {
		if left := l.Tokens(); left > most {
			most, which = left, key
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(r.seen, which)
}

// How long the greylist remembers whom it has told to wait, and whom it has let through.
const (
	waitsFor  = 24 * time.Hour
	passesFor = 35 * 24 * time.Hour // longer than a month: newsletters
)

// greylist remembers who has sent to whom from where, as keyed hashes.
type greylist struct {
	delay time.Duration
	*triplets
}

// triplets is what a greylist remembers. It outlives the process: see [Guard.Memory].
type triplets struct {
	mu      sync.Mutex
	key     [32]byte
	seen    map[[16]byte]triplet
	changed bool // since it was kept last
}

type triplet struct {
	since  int64 // Unix seconds: when it was seen first, or let through last
	passed bool
}

// newGreylist lets new senders wait, nil nobody.
func newGreylist(delay time.Duration) *greylist {
	if delay <= 0 {
		return nil
	}
	g := &greylist{delay, &triplets{seen: make(map[[16]byte]triplet)}}
	rand.Read(g.key[:])
	return g
}

func (g *greylist) allow(network netip.Addr, from, to string, now time.Time) bool {
	if g == nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	mac := hmac.New(sha256.New, g.key[:])
	for _, part := range []string{network.String(), from, to} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	key := [16]byte(mac.Sum(nil))
	was, found := g.seen[key]
	if found && was.over(now) {
		found = false
	}
	switch {
	case !found:
		if len(g.seen) >= maxTriplets {
			g.forget(now)
		}
		g.seen[key], g.changed = triplet{now.Unix(), false}, true
		return false
	case !was.passed && now.Sub(time.Unix(was.since, 0)) < g.delay:
		return false
	}
	g.seen[key], g.changed = triplet{now.Unix(), true}, true
	return true
}

func (t triplet) over(now time.Time) bool {
	age := now.Sub(time.Unix(t.since, 0))
	return age > passesFor || !t.passed && age > waitsFor
}

// forget makes room: of a few, what is over, or else the one that waits, or was let
// through, longest. g.mu is held.
func (g *greylist) forget(now time.Time) {
	looked := 0
	var oldest [16]byte
	var since int64
	for key, t := range g.seen {
		if t.over(now) {
			oldest = key
			break
		}
		if looked == 0 || t.since < since {
			oldest, since = key, t.since
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(g.seen, oldest)
}
