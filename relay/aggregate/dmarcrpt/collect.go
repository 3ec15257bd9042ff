package dmarcrpt

import (
	"encoding/json"

	"tacet/relay"
	"tacet/relay/aggregate"
)

// The limits of what is counted. Beyond them messages are not counted.
const (
	maxPolicies = 4     // of a domain on one day: it may change its record
	maxRows     = 2_000 // of one report
	maxSigned   = 5     // signatures of a row
)

// counts are the messages of one report: how many of each row.
type counts map[string]int64 // by row, as JSON

// Collector counts outcomes by day and by the record that was in force, as JSON, and reports
// each day once it is over ([aggregate.Days.Run]). It fills [relay.DMARCObserver], which may be
// called at any time.
type Collector struct {
	*aggregate.Days[counts]
	config Config
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
	c.Count(domain, func(policies map[string]counts, room bool) int {
		return count(policies, room, string(policy), string(row))
	})
}

// count adds one message, and what is new about it only if there is room. It returns
// how much more memory that takes.
func count(policies map[string]counts, room bool, policy, row string) (grown int) {
	rows := policies[policy]
	if n, ok := rows[row]; ok {
		rows[row] = n + 1
		return 0
	}
	if !room || rows == nil && len(policies) >= maxPolicies || len(rows) >= maxRows {
		return 0
	}
	if rows == nil {
		rows = make(counts)
		policies[policy] = rows
		grown = mapCost + len(policy)
	}
	rows[row] = 1
	return grown + rowCost + len(row)
}

// What entries of maps take beside their keys, in octets.
const (
	mapCost = 128
	rowCost = 48
)

// cost estimates the memory of the counts of a policy, in octets.
func cost(policy string, rows counts) int {
	n := mapCost + len(policy)
	for row := range rows {
		n += rowCost + len(row)
	}
	return n
}
