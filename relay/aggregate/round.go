package aggregate

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// The pace of reports.
const (
	saveEvery  = 10 * time.Minute
	spread     = 4 * time.Hour  // over which reports go out after a day's end (RFC 8460 §4.1)
	retryEvery = time.Hour      // where a report could not be handed over
	keepFor    = 48 * time.Hour // since a day's begin: then its reports are given up (RFC 8460 §4.1: a day of tries)
)

// Run saves the counts and has past days reported, until ctx ends.
func (d *Days[V]) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	report := time.NewTimer(rand.N(spread)) // of days that ended before
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			d.tell(d.save())
			return
		case <-save.C:
			d.tell(d.save())
		case <-report.C:
			if d.report(ctx) {
				report.Reset(retryEvery)
			} else {
				report.Reset(time.Until(midnight(time.Now()).Add(24*time.Hour)) + rand.N(spread))
			}
		}
	}
}

func (d *Days[V]) tell(err error) {
	if err != nil && d.config.Failed != nil {
		d.config.Failed(err)
	}
}

// midnight is when the UTC day of t began.
func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// report has reported what is owed for days that are over. It tells whether
// something is left to do.
func (d *Days[V]) report(ctx context.Context) (left bool) {
	for begin, domains := range d.past(time.Now()) {
		for _, domain := range domains {
			if ctx.Err() != nil {
				return true
			}
			if d.config.Report(ctx, begin, domain) != nil {
				left = true
				continue
			}
			d.settle(begin, domain)
		}
	}
	d.mu.Lock()
	d.recount()
	d.mu.Unlock()
	d.tell(d.save())
	return left
}

// past is the domains of each day that is over, by when it began.
func (d *Days[V]) past(now time.Time) map[time.Time][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(now)
	past := make(map[time.Time][]string)
	for day, domains := range d.days {
		if begin, err := time.Parse(time.DateOnly, day); err == nil && begin.Before(midnight(now)) {
			past[begin] = slices.Sorted(maps.Keys(domains))
		}
	}
	return past
}

// settle drops what was reported.
func (d *Days[V]) settle(begin time.Time, domain string) {
	day := begin.Format(time.DateOnly)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty = true
	delete(d.days[day], domain)
	if len(d.days[day]) == 0 {
		delete(d.days, day)
	}
}
