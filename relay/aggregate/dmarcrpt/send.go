package dmarcrpt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tacet/relay/aggregate"
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
	Keeper   aggregate.Keeper
	Failed   func(error) // is told that the Keeper failed; nil: no one
}

const (
	sendWithin = time.Minute // for one report
	maxReport  = 10 << 20    // octets of a packed one
)

// New makes a collector with what its Keeper has. The error is the Keeper's,
// and the collector works all the same.
func New(config Config) (*Collector, error) {
	c := &Collector{config: config}
	var err error
	c.Days, err = aggregate.New(aggregate.Config[counts]{
		What: "DMARC", Keeper: config.Keeper, Failed: config.Failed, Report: c.report, Cost: cost,
	})
	return c, err
}

// report sends the reports of one domain to each of its addresses, and is done if one of
// them took them: that one must not get them twice.
func (c *Collector) report(ctx context.Context, begin time.Time, domain string) error {
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
	c.View(begin, domain, func(policies map[string]counts) {
		for i, policy := range slices.Sorted(maps.Keys(policies)) {
			reports = append(reports, c.config.newReport(begin, domain, i+1, policy, policies[policy]))
		}
	})
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
		if len(packed) > maxReport {
			continue
		}
		if err := c.config.World.Submit(ctx, string(t), r.letter(string(t), packed).Message(time.Now())); err != nil {
			return err
		}
	}
	return nil
}

// agreed is where the reports of the domain are wanted: all targets of its own organization, and what other hosts
// say (RFC 9990 §4). What can't be found out of one counts only if there is no other.
func (c *Collector) agreed(ctx context.Context, domain string, targets []target) (agreed []target, err error) {
	var faults []error
	for _, t := range targets {
		wanted, err := c.wanted(ctx, domain, t)
		if err != nil {
			faults = append(faults, fmt.Errorf("asking who wants DMARC reports: %w", err))
		}
		for _, w := range wanted {
			if len(agreed) < maxTargets && !slices.Contains(agreed, w) {
				agreed = append(agreed, w)
			}
		}
	}
	if len(agreed) > 0 {
		return agreed, nil
	}
	return nil, errors.Join(faults...)
}

// wanted is where the reports that a domain wants at t go; nowhere, if its host has not agreed.
func (c *Collector) wanted(ctx context.Context, domain string, t target) ([]target, error) {
	host := t.host()
	if host == domain {
		return []target{t}, nil
	}
	ours, err := c.config.World.Organizational(ctx, domain)
	if err != nil {
		return nil, err
	}
	theirs, err := c.config.World.Organizational(ctx, host)
	if err != nil {
		return nil, err
	}
	if ours == theirs {
		return []target{t}, nil
	}
	records, err := c.config.World.TXT(ctx, domain+"._report._dmarc."+host)
	return override(t, records), err
}
