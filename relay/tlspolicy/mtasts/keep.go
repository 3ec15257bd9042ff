package mtasts

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// saved is an entry as the Keeper has it.
type saved struct {
	Domain  string    `json:"domain"`
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Text    string    `json:"policy"`
}

// load takes over what the Keeper has. What is no policy, or has ended, is left out.
func (c *Cache) load() error {
	if c.config.Keeper == nil {
		return nil
	}
	text, err := c.config.Keeper.Load()
	if err != nil || len(text) == 0 {
		return err
	}
	var all []saved
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("reading the kept MTA-STS policies: %w", err)
	}
	now := time.Now()
	for _, s := range all {
		p, err := parsePolicy(s.Text)
		if err != nil || !isID(s.ID) || !isName(s.Domain) {
			continue
		}
		e := &entry{id: s.ID, fetched: s.Fetched, policy: p}
		// One from the future would hold for longer than it says.
		if now.Before(e.expires()) && !s.Fetched.After(now.Add(time.Hour)) && len(c.entries) < maxEntries && c.octets+e.cost() <= maxOctets {
			c.entries[s.Domain] = e
			c.octets += e.cost()
		}
	}
	return nil
}

// store gives what is known to the Keeper, without what has ended, unless
// the Keeper has it already.
func (c *Cache) store() error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	if !c.dirty {
		c.mu.Unlock()
		return nil
	}
	c.save, c.dirty = nil, false
	now := time.Now()
	all := make([]saved, 0, len(c.entries))
	for domain := range c.entries {
		if e := c.valid(domain, now); e != nil {
			all = append(all, saved{domain, e.id, e.fetched, strings.Join(e.policy.Text, "\n")})
		}
	}
	c.mu.Unlock()
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encoding the MTA-STS policies: %w", err)
	}
	err = c.config.Keeper.Save(text)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.saveSoon()
	}
	return err
}

// saveSoon has what has changed saved in a while. c.mu is held.
func (c *Cache) saveSoon() {
	c.dirty = c.config.Keeper != nil
	if c.save == nil && c.dirty && !c.closed {
		c.save = time.AfterFunc(saveAfter, func() {
			if err := c.store(); err != nil && c.config.Failed != nil {
				c.config.Failed(err)
			}
		})
	}
}
