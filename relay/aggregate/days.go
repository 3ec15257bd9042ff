package aggregate

import (
	"context"
	"sync"
	"time"
)

// The limits of what is counted.
const (
	maxDomains = 10_000   // of one day
	maxOctets  = 16 << 20 // of all that is counted, as estimated
	domainCost = 128      // octets of a domain's entry beside its name
)

// Config says what is counted, and who tells it.
type Config[V any] struct {
	What   string // is counted, for errors
	Keeper Keeper
	Failed func(error) // is told that the Keeper failed; nil: no one
	// Cost estimates the memory of one of a domain's counts, in octets.
	Cost func(key string, counts V) int
	// Report tells a domain what was counted on the day that starts at begin, or finds that
	// it wants no report. An error says that it should be tried again. It is
	// never called twice at a time.
	Report func(ctx context.Context, begin time.Time, domain string) error
}

// Days holds counts by UTC day and domain; a domain's are a V for each key. All
// methods but [Days.Run] may be called at the same time.
type Days[V any] struct {
	config Config[V]

	mu     sync.Mutex
	days   map[string]map[string]map[string]V // by UTC date and domain
	octets int
	dirty  bool
}

// New returns the Days that the Keeper has. The error is the Keeper's, and they
// work all the same.
func New[V any](config Config[V]) (*Days[V], error) {
	d := &Days[V]{config: config, days: make(map[string]map[string]map[string]V)}
	return d, d.load()
}

// Count has add count something of today for a domain, unless there are too many
// domains. Add brings in what is new only if there is room, and returns how much more memory that
// takes, as Cost does.
func (d *Days[V]) Count(domain string, add func(counts map[string]V, room bool) (grown int)) {
	today := time.Now().UTC().Format(time.DateOnly)
	d.mu.Lock()
	defer d.mu.Unlock()
	room := d.octets < maxOctets
	day := d.days[today]
	if day[domain] == nil {
		if len(day) >= maxDomains || !room {
			return
		}
		if day == nil {
			day = make(map[string]map[string]V)
			d.days[today] = day
		}
		day[domain] = make(map[string]V)
		d.octets += domainCost + len(domain)
	}
	d.dirty = true
	d.octets += add(day[domain], room)
}

// View shows what was counted for a domain on the day that starts at begin. See
// must not keep the map.
func (d *Days[V]) View(begin time.Time, domain string, see func(counts map[string]V)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	see(d.days[begin.UTC().Format(time.DateOnly)][domain])
}

// recount estimates anew what is counted. d.mu is held, or d is new.
func (d *Days[V]) recount() {
	d.octets = 0
	for _, domains := range d.days {
		for domain, all := range domains {
			d.octets += domainCost + len(domain)
			for key, counts := range all {
				d.octets += d.config.Cost(key, counts)
			}
		}
	}
}
