package dmarcrpt

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"tacet/relay"
)

// The limits of what is counted. Beyond them messages are not counted.
const (
	maxDomains  = 10_000   // of one day
	maxPolicies = 4        // of a domain on one day: it may change its record
	maxRows     = 2_000    // of one report
	maxSigned   = 5        // signatures of a row
	maxOctets   = 16 << 20 // of all that is counted, as estimated
)

// Keeper keeps the counts over restarts.
type Keeper interface {
	// Load returns what Save was given last, or nothing.
	Load() ([]byte, error)
	// Save replaces what is kept, whole or not at all.
	Save([]byte) error
}

// counts are the messages of one report: how many of each row.
type counts map[string]int64 // by row, as JSON

// policies are a domain's counts by the record that was in force, as JSON.
type policies map[string]counts

// Collector counts outcomes by day. It fills [relay.DMARCObserver]. All methods
// may be called at the same time.
type Collector struct {
	config Config

	mu     sync.Mutex
	days   map[string]map[string]policies // by UTC date, and by the domain of the record
	octets int
	dirty  bool
}

var _ relay.DMARCObserver = (*Collector)(nil)

// Observe implements [relay.DMARCObserver].
func (c *Collector) Observe(o relay.DMARCOutcome) {
	domain := o.Policy.Domain
	policy, err := json.Marshal(o.Policy)
	if err != nil || domain == "" || !o.Client.IsValid() {
		return
	}
	o.Policy = relay.DMARCPolicy{} // stands above the row
	o.Signatures = o.Signatures[:min(len(o.Signatures), maxSigned)]
	row, err := json.Marshal(o)
	if err != nil {
		return
	}
	today := time.Now().UTC().Format(time.DateOnly)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(today, domain, string(policy), string(row))
}

// add counts one message, and what is new about it only if there is room.
func (c *Collector) add(today, domain, policy, row string) {
	if n, ok := c.days[today][domain][policy][row]; ok {
		c.days[today][domain][policy][row], c.dirty = n+1, true
		return
	}
	day := c.days[today]
	if c.octets >= maxOctets || day[domain] == nil && len(day) >= maxDomains ||
		day[domain][policy] == nil && len(day[domain]) >= maxPolicies || len(day[domain][policy]) >= maxRows {
		return
	}
	if day == nil {
		day = make(map[string]policies)
		c.days[today] = day
	}
	if day[domain] == nil {
		day[domain] = make(policies)
		c.octets += mapCost + len(domain)
	}
	if day[domain][policy] == nil {
		day[domain][policy] = make(counts)
		c.octets += mapCost + len(policy)
	}
	day[domain][policy][row], c.dirty = 1, true
	c.octets += rowCost + len(row)
}

// What entries of maps take beside their keys, in octets.
const (
	mapCost = 128
	rowCost = 48
)

// recount estimates anew what is counted. c.mu is held, or c is new.
func (c *Collector) recount() {
	c.octets = 0
	for _, day := range c.days {
		for domain, all := range day {
			c.octets += mapCost + len(domain)
			for policy, rows := range all {
				c.octets += mapCost + len(policy)
				for row := range rows {
					c.octets += rowCost + len(row)
				}
			}
		}
	}
}

// load takes over what the Keeper has, without days that are of no use any more.
func (c *Collector) load() error {
	text, err := c.config.Keeper.Load()
	if err != nil || len(text) == 0 {
		return err
	}
	if err := json.Unmarshal(text, &c.days); err != nil {
		err = fmt.Errorf("reading the kept DMARC counts: %w", err)
		c.days = make(map[string]map[string]policies)
		return err
	}
	if c.days == nil {
		c.days = make(map[string]map[string]policies)
	}
	c.forget(time.Now())
	return nil
}

// forget drops the days that are too old to be reported, and those of a clock
// that was ahead. c.mu is held, or c is new.
func (c *Collector) forget(now time.Time) {
	for day := range c.days {
		begin, err := time.Parse(time.DateOnly, day)
		if err != nil || now.Sub(begin) > keepFor || begin.After(now) {
			delete(c.days, day)
			c.dirty = true
		}
	}
	c.recount()
}

// save gives the counts to the Keeper, unless it has them.
func (c *Collector) save() error {
	c.mu.Lock()
	if !c.dirty {
		c.mu.Unlock()
		return nil
	}
	c.dirty = false
	text, err := json.Marshal(c.days)
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encoding the DMARC counts: %w", err)
	}
	return c.config.Keeper.Save(text)
}
