package tlsrpt

import (
	"encoding/json"
	"fmt"
	"time"
)

// Keeper keeps the counts over restarts.
type Keeper interface {
	// Load returns what Save was given last, or nothing.
	Load() ([]byte, error)
	// Save replaces what is kept, whole or not at all.
	Save([]byte) error
}

// load takes over what the Keeper has, without days that are of no use any more.
func (c *Collector) load() error {
	text, err := c.config.Keeper.Load()
	if err != nil || len(text) == 0 {
		return err
	}
	if err := json.Unmarshal(text, &c.days); err != nil {
		c.days = make(map[string]map[string]domainCounts)
		return fmt.Errorf("reading the kept TLS counts: %w", err)
	}
	if c.days == nil {
		c.days = make(map[string]map[string]domainCounts)
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
		return fmt.Errorf("encoding the TLS counts: %w", err)
	}
	return c.config.Keeper.Save(text)
}
