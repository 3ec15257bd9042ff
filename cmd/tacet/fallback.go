package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
	"tacet/relay/route"
)

// withPrimary adds to the core's config what it needs to know of primaries, as
// the routes in use name them, and of who exists there.
func (d *daemon) withPrimary(config relay.Config, c *Config) relay.Config {
	config.PrimarySchedule = queue.Schedule{Retry: c.Queue.Retry, Lifetime: c.Primary.Lifetime}
	config.ProbeEvery, config.Prober = c.Primary.Probe, d.client
	config.Primaries = d.primaries()
	d.people.Store(d.directory(c))
	if directory := d.people.Load(); directory != nil {
		config.Directory = directory
	}
	return config
}

// primaries are the destinations where mail for relay domains waits, nil if
// there are none.
func (d *daemon) primaries() map[queue.Destination]struct{} {
	var set map[queue.Destination]struct{}
	for _, primary := range d.routes.current.Load().Primaries() {
		if set == nil {
			set = make(map[queue.Destination]struct{})
		}
		set[primary] = struct{}{}
	}
	return set
}

// turner lets a primary that is back ask for its mail.
type turner struct{ d *daemon }

// Turn implements inbound.Turner. A domain's queue is its primary's: the client
// must have an address of it.
func (t turner) Turn(ctx context.Context, client netip.Addr, name string) (waiting int, err error) {
	domain := queue.Domain(strings.TrimPrefix(name, "@")) // RFC 1985 §5.2: with its subdomains, which are no others here
	if !route.NewDomains(t.d.settings().Relay.Domains).Has(domain) {
		return 0, inbound.ErrNotAllowed
	}
	at := t.d.routes.Destination(queue.ForwardPath("postmaster@" + domain))
	way, err := t.d.routes.Route(ctx, at)
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(way.Hops, func(h relay.Hop) bool {
		return h.Addr.Addr().Unmap() == client
	}) {
		return 0, inbound.ErrNotAllowed
	}
	for w, err := range t.d.store.Waits(ctx) {
		if err != nil {
			return 0, err
		}
		if w.Destination == at && !w.Held {
			waiting++
		}
	}
	if waiting == 0 {
		return 0, nil
	}
	_, err = t.d.relay.Drain(ctx, at)
	return waiting, err
}

// settings is the config in use.
func (d *daemon) settings() *Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// dwell is what waits for primaries, as it was found last.
type dwell struct {
	waiting atomic.Int64 // messages
	oldest  atomic.Int64 // when the oldest of them arrived, Unix seconds; 0: none waits

	away, late bool // what the operator was told
}

// dwellEvery is how often it is looked at.
const dwellEvery = 20 * time.Second

// watchPrimary keeps an eye on what waits for primaries.
func (d *daemon) watchPrimary(ctx context.Context) {
	every(ctx, dwellEvery, func() {
		if err := d.lookAtPrimary(ctx, time.Now()); ctx.Err() == nil {
			d.taskFailed(err)
		}
	})
}

// lookAtPrimary counts what waits for primaries, and tells the operator when one
// goes away, is back, or mail waits for it longer than primary.alarm says.
func (d *daemon) lookAtPrimary(ctx context.Context, now time.Time) error {
	config := d.settings()
	primaries := d.primaries()
	if len(primaries) == 0 {
		return nil
	}
	waiting, oldest := 0, time.Time{}
	for w, err := range d.store.Waits(ctx) {
		if err != nil {
			return err
		}
		if _, ok := primaries[w.Destination]; !ok || w.Held {
			continue
		}
		waiting++
		if at := w.ID.Time(); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	d.dwell.waiting.Store(int64(waiting))
	d.dwell.oldest.Store(0)
	late := false
	if !oldest.IsZero() {
		d.dwell.oldest.Store(oldest.Unix())
		late = config.Primary.Alarm > 0 && now.Sub(oldest) >= config.Primary.Alarm
	}
	away := false
	for primary := range primaries {
		away = away || d.relay.Unreachable(primary)
	}
	switch {
	case away && !d.dwell.away:
		d.ops.Log(logging.OpPrimaryAway, logging.Count(waiting))
	case !away && d.dwell.away:
		d.ops.Log(logging.OpPrimaryBack, logging.Count(waiting))
	}
	if late && !d.dwell.late {
		d.ops.Log(logging.OpPrimaryLate, logging.Count(waiting), logging.Duration(now.Sub(oldest)))
	}
	d.dwell.away, d.dwell.late = away, late
	return nil
}

// primary adds the figures of what waits for primaries.
func (m *meters) primary(d *daemon) {
	gauge := func(name, help string, read func() float64) { m.add(prometheus.GaugeValue, name, help, nil, read) }
	gauge("primary_waiting_messages", "Messages that wait for the primary of a relay domain.", load(&d.dwell.waiting))
	gauge("primary_oldest_seconds", "Age of the oldest message that waits for a primary; 0 if none does.", func() float64 {
		if at := d.dwell.oldest.Load(); at != 0 {
			return max(time.Since(time.Unix(at, 0)).Seconds(), 0)
		}
		return 0
	})
	gauge("primary_unreachable", "Primaries that cannot be reached now.", func() float64 {
		n := 0
		for _, primary := range d.routes.current.Load().Primaries() {
			if d.relay.Unreachable(primary) {
				n++
			}
		}
		return float64(n)
	})
}
