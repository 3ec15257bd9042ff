package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// ReportDMARC runs the relay of a config in this process until the test ends, and has the reports on DMARC
// go out of what the relay before it kept: for them the day is made to be over (see nextDay). It
// returns what tells of which domains anything is counted.
func ReportDMARC(t *testing.T, file string) (counted func() []string) {
	t.Helper()
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	d := runDaemon(t, config, deps{})
	d.nextDayDMARC(t)
	return func() (domains []string) {
		t.Helper()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		d.dmarc.Run(over) // keeps what was counted
		text, err := d.config.sealed("dmarcreports").Load()
		if err != nil {
			t.Fatal(err)
		}
		var days map[string]map[string]json.RawMessage
		if err := json.Unmarshal(text, &days); err != nil {
			t.Fatal(err)
		}
		for _, all := range days {
			domains = slices.AppendSeq(domains, maps.Keys(all))
		}
		slices.Sort(domains)
		return slices.Compact(domains)
	}
}
