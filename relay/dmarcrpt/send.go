package dmarcrpt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// World is what reports need of the world.
type World interface {
	// TXT returns the TXT records of name; a name that does not exist has none.
	TXT(ctx context.Context, name string) ([]string, error)
	// Organizational returns the organizational domain of a domain (RFC 9989 §4.10.2).
	Organizational(ctx context.Context, domain string) (string, error)
	// Submit queues a message of the relay's own.
	Submit(ctx context.Context, to string, content []byte) error
}

// Config is how a [Collector] works.
type Config struct {
	Hostname string // of this relay, by which it is known
	Contact  string // mailbox of a person, and the letters' sender
	World    World
	Keeper   Keeper
	Failed   func(error) // is told that the Keeper failed; nil: no one
}

// The pace of reports.
const (
	saveEvery  = 10 * time.Minute
	spread     = 4 * time.Hour  // over which reports go out after a day's end
	retryEvery = time.Hour      // where a report could not be handed over
	keepFor    = 48 * time.Hour // since a day's begin: then its reports are given up
	sendWithin = time.Minute    // for one report
	maxReport  = 10 << 20       // octets of a packed one
)

// New makes a collector with what its Keeper has. The error is the Keeper's,
// and the collector works all the same.
func New(config Config) (*Collector, error) {
	c := &Collector{config: config, days: make(map[string]map[string]policies)}
	return c, c.load()
}

// Run saves the counts and sends the reports of past days, until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	send := time.NewTimer(rand.N(spread)) // of days that ended before
	defer send.Stop()
	for {
		select {
		case <-ctx.Done():
			c.tell(c.save())
			return
		case <-save.C:
			c.tell(c.save())
		case <-send.C:
			if c.report(ctx) {
				send.Reset(retryEvery)
			} else {
				send.Reset(time.Until(midnight(time.Now()).Add(24*time.Hour)) + rand.N(spread))
			}
		}
	}
}

func (c *Collector) tell(err error) {
	if err != nil && c.config.Failed != nil {
		c.config.Failed(err)
	}
}

// midnight is when the UTC day of t began.
func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// report sends what is owed for days that are over. A domain's counts are
// dropped when its reports were handed over, or no one wants them. It tells whether something is left to do.
func (c *Collector) report(ctx context.Context) (left bool) {
	now := time.Now()
	c.mu.Lock()
	c.forget(now)
	past := make(map[string][]string)
	for day, domains := range c.days {
		if day < now.UTC().Format(time.DateOnly) {
			past[day] = slices.Sorted(maps.Keys(domains))
		}
	}
	c.mu.Unlock()
	for day, domains := range past {
		begin, _ := time.Parse(time.DateOnly, day) // forget left none that is no date
		for _, domain := range domains {
			if ctx.Err() != nil {
				return true
			}
			if err := c.reportTo(ctx, begin, domain); err != nil {
				left = true
				continue
			}
			c.settle(day, domain)
		}
	}
	c.mu.Lock()
	c.recount()
	c.mu.Unlock()
	c.tell(c.save())
	return left
}

// settle drops what was reported.
func (c *Collector) settle(day, domain string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = true
	delete(c.days[day], domain)
	if len(c.days[day]) == 0 {
		delete(c.days, day)
	}
}

// reportTo sends the reports of one domain to each of its addresses, and is done if one of
// them took them: that one must not get them twice. An error says that it should be tried again.
func (c *Collector) reportTo(ctx context.Context, begin time.Time, domain string) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	records, err := c.config.World.TXT(ctx, "_dmarc."+domain)
	if err != nil {
		return fmt.Errorf("asking whether a domain wants DMARC reports: %w", err)
	}
	targets, err := c.agreed(ctx, domain, parseRecord(records))
	if err != nil || len(targets) == 0 {
		return err
	}
	var reports []*report
	c.mu.Lock()
	all := c.days[begin.Format(time.DateOnly)][domain]
	for i, policy := range slices.Sorted(maps.Keys(all)) {
		reports = append(reports, c.config.newReport(begin, domain, i+1, policy, all[policy]))
	}
	c.mu.Unlock()
	var faults []error
	for _, t := range targets {
		faults = append(faults, c.send(ctx, t, reports))
	}
	if slices.Contains(faults, nil) { // those that took it must not get it twice
		return nil
	}
	return errors.Join(faults...)
}

// send hands reports to one address. One that is too large for it is left out.
func (c *Collector) send(ctx context.Context, t target, reports []*report) error {
	for _, r := range reports {
		packed, err := r.packed()
		if err != nil {
			return err
		}
		if int64(len(packed)) > min(t.most, maxReport) {
			continue
		}
		if err := c.config.World.Submit(ctx, t.mail, r.letter(t.mail, time.Now(), packed)); err != nil {
			return err
		}
	}
	return nil
}

// agreed is those of the targets that want the reports of the domain: all of its own organization, and of
// others those that say so (RFC 9990 §4).
func (c *Collector) agreed(ctx context.Context, domain string, targets []target) (agreed []target, err error) {
	for _, t := range targets {
		wants, err := c.wants(ctx, domain, t.host())
		if err != nil {
			return nil, fmt.Errorf("asking who wants DMARC reports: %w", err)
		}
		if wants {
			agreed = append(agreed, t)
		}
	}
	return agreed, nil
}

func (c *Collector) wants(ctx context.Context, domain, host string) (bool, error) {
	if host == domain {
		return true, nil
	}
	ours, err := c.config.World.Organizational(ctx, domain)
	if err != nil {
		return false, err
	}
	theirs, err := c.config.World.Organizational(ctx, host)
	if err != nil || ours == theirs {
		return err == nil, err
	}
	records, err := c.config.World.TXT(ctx, domain+"._report._dmarc."+host)
	return slices.ContainsFunc(records, isDMARC), err
}
