package aggregate

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
func (d *Days[V]) load() error {
	text, err := d.config.Keeper.Load()
	if err != nil || len(text) == 0 {
		return err
	}
	days := make(map[string]map[string]map[string]V)
	if err := json.Unmarshal(text, &days); err != nil {
		return fmt.Errorf("reading the kept %s counts: %w", d.config.What, err)
	}
	if days != nil { // as "null" makes it
		d.days = days
	}
	d.forget(time.Now())
	return nil
}

// forget drops the days that are too old to be reported, and those of a clock
// that was ahead. d.mu is held, or d is new.
func (d *Days[V]) forget(now time.Time) {
	for day := range d.days {
		begin, err := time.Parse(time.DateOnly, day)
		if err != nil || now.Sub(begin) > keepFor || begin.After(now) {
			delete(d.days, day)
			d.dirty = true
		}
	}
	d.recount()
}

// save gives the counts to the Keeper, unless it has them.
func (d *Days[V]) save() error {
	d.mu.Lock()
	if !d.dirty {
		d.mu.Unlock()
		return nil
	}
	d.dirty = false
	text, err := json.Marshal(d.days)
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encoding the %s counts: %w", d.config.What, err)
	}
	return d.config.Keeper.Save(text)
}
